"""Files that the command writes: refused in one line before the work, or written; and what it does with its streams."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

from sao_onnx.audio.files import read_audio
from sao_onnx.errors import RequestError
from sao_onnx.file_names import fields, file_name, for_several
from sao_onnx.provenance import read_provenance
from sao_onnx.slug import slug
from tests import processes

posix = pytest.mark.skipif(sys.platform == "win32", reason="names as bytes, links and devices are POSIX's")

BEFORE = ("--steps", 5_000)
"""What would take minutes, so that a refusal after the work is noticed."""

QUICK = ("--seconds", 0.1, "--steps", 1, "-q")


@pytest.fixture
def gen(command, miniature):
    def call(*arguments, **options):
        return command("gen", *arguments, "-m", miniature, **options)

    return call


def _lines(done):
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()


@posix
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["caf\udce9 door"], 2, r"error: the prompt is 'caf\udce9 door', which holds a zero or half a character"),
        (["rain", "--negative", "\udce9"], 2, r"error: negative_prompt is '\udce9', which holds a zero or half a character"),
        (["rain", "-o", "a" * 252 + ".wav"], 1, "cannot be written: File name too long"),
        (["rain", "-o", "é" * 126 + ".wav"], 1, "cannot be written: File name too long"),
        (["rain", "-o", "a" * 247 + ".wav", "-n", "2"], 1, "cannot be written: File name too long"),
        (["rain", "-o", "~nobody/x.wav"], 1, "error: the folder ~nobody does not exist"),
        (["rain", "-o", "/proc/a.wav"], 1, "error: /proc/a.wav cannot be written"),
        (["rain", "-o", "mine.txt/a.wav"], 1, "error: mine.txt/a.wav cannot be written: Not a directory"),
        (
            ["rain", "-o", "/dev/null"],
            2,
            "error: /dev/null is a device or a pipe, expected a file; gen -o - writes a WAV to stdout",
        ),
        (["rain", "-o", "pipe.wav", "--force"], 2, "error: pipe.wav is a device or a pipe"),
        (["rain", "-o", "dangling.wav"], 1, "error: dangling.wav exists; choose another name"),
        (["rain", "-o", "loop.wav", "--force"], 1, "error: loop.wav cannot be written: Too many levels of symbolic links"),
        (["rain", "-o", "a.wav", "--preview", "./a.wav"], 2, "error: a.wav would be written twice"),
        (["rain", "-o", "link.wav", "--preview", "mine.wav", "--force"], 2, "error: mine.wav would be written twice"),
        (["rain", "-o", "same.wav", "-n", "2", "-o", "{seed:.0s}"], 2, "cannot be read"),
        (["rain", "-o", "{index:.0f}.wav", "--init", "0.wav", "-n", "2"], 1, "0.wav does not exist"),
        (["rain", "--init", "mine.wav", "-o", "mine.wav", "--force"], 2, "error: mine.wav is what the clip is made from"),
        (["rain", "--init", "mine.wav", "-o", "link.wav", "--force"], 2, "error: link.wav is what the clip is made from"),
        (["--from", "mine.wav", "-o", "mine.wav", "--force"], 2, "error: mine.wav is what the clip is made from"),
        (["rain", "--init", "mine.wav", "-o", "b.wav", "--preview", "mine.wav", "--force"], 2, "what the clip is made from"),
    ],
)
def test_refused_before_the_work(gen, made, tmp_path, arguments, code, message):
    (tmp_path / "mine.wav").write_bytes(made)
    (tmp_path / "mine.txt").touch()
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "link.wav").symlink_to("mine.wav")
    (tmp_path / "dangling.wav").symlink_to("nothing.wav")
    (tmp_path / "loop.wav").symlink_to("loop.wav")
    before = sorted(os.listdir(tmp_path))
    done = gen(*arguments, *BEFORE)
    assert message in done.stderr
    assert done.returncode == code
    assert len(_lines(done)) == 1
    assert done.stdout == ""
    assert sorted(os.listdir(tmp_path)) == before
    assert (tmp_path / "mine.wav").read_bytes() == made


@pytest.fixture(scope="module")
def made(engine, tmp_path_factory):
    """The bytes of a clip with its tags."""
    path = tmp_path_factory.mktemp("made") / "a.wav"
    engine.generate("rain", seconds=0.1, steps=1, seed=1).save(path)
    return path.read_bytes()


@posix
@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["!"], "clip-5.wav"),
        (["дождь на крыше"], "дождь-на-крыше-5.wav"),
        (["rain", "-o", "a" * 251 + ".wav"], "a" * 251 + ".wav"),
        (["rain", "-o", "é" * 125 + ".wav"], "é" * 125 + ".wav"),
        (["雨" * 200], "雨" * 20 + "-5.wav"),
        (["rain", "-o", "~x.wav"], "~x.wav"),
        (["rain", "-o", "caf\udce9.wav"], "caf\udce9.wav"),
        (["rain", "-o", "a\x1b[2J\nb.wav"], "a\x1b[2J\nb.wav"),
    ],
)
def test_names_that_work(gen, tmp_path, arguments, name):
    done = gen(*arguments, "--seed", 5, *QUICK, text=False, PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert os.listdir(tmp_path) == [name]
    assert done.stdout == os.fsencode(name) + b"\n"
    assert read_audio(tmp_path / name)[0].shape == (2, 4410)
    assert read_provenance(tmp_path / name).seed == 5


def test_the_home_folder(gen, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    done = gen("rain", "-o", "~/a.wav", "--preview", "~/p.wav", "--seconds", 0.1, "--steps", 3, "-q", HOME=str(home))
    assert done.stdout == f"{home / 'a.wav'}\n"
    assert sorted(os.listdir(home)) == ["a.wav", "p.wav"]


@posix
def test_a_folder_that_cannot_be_written_to(gen, tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    for mode, problem in ((0o500, "cannot be written: Permission denied"), (0o600, "cannot be written: Permission denied")):
        folder = tmp_path / f"{mode:o}"
        folder.mkdir(mode)
        done = gen("rain", "-o", folder / "a.wav", *BEFORE)
        assert done.returncode == 1
        assert problem in done.stderr
        assert len(_lines(done)) == 1


@posix
def test_a_link_is_written_through(gen, tmp_path):
    (tmp_path / "music").mkdir()
    (tmp_path / "music" / "a.wav").write_bytes(b"old")
    (tmp_path / "link.wav").symlink_to("music/a.wav")
    assert "link.wav exists" in gen("rain", "-o", "link.wav", *BEFORE).stderr
    assert gen("rain", "-o", "link.wav", "--force", *QUICK).returncode == 0
    assert (tmp_path / "link.wav").is_symlink()
    assert soundfile.info(tmp_path / "music" / "a.wav").frames == 4410
    assert os.listdir(tmp_path / "music") == ["a.wav"]


HOMELESS = """
import pwd, sys
def unknown(_): raise KeyError
pwd.getpwuid = pwd.getpwnam = unknown
sys.argv[0] = "sao-onnx"
from sao_onnx.cli import main
from sao_onnx.slug import slug
main()
"""


@posix
def test_without_a_home(miniature, tmp_path):
    """As in a container whose user has no name."""
    gone = ("HOME", "XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME")
    environment = {name: value for name, value in os.environ.items() if name not in gone}

    def run(*arguments):
        return processes.run([sys.executable, "-c", HOMELESS, *arguments], cwd=tmp_path, env=environment)

    done = run("gen", "rain", "-m", miniature, "-o", "a.wav", "--plot", "a.png", *QUICK)
    assert (done.returncode, done.stdout) == (0, "a.wav\n"), done.stderr
    assert run("doctor", "-m", miniature).returncode == 0
    assert run("models").stdout.startswith("* sao-tiny")
    tuned = run("tune", miniature)
    assert tuned.returncode == 1
    assert tuned.stderr == "error: this user has no home folder; set HOME or XDG_STATE_HOME to a folder\n"


@posix
@pytest.mark.parametrize("closed", ["1", "2", "0", "0,1,2"])
def test_closed_streams(miniature, tmp_path, closed):
    """Nothing of what the command or its libraries print gets into a file that took the number of a closed stream."""
    code = f"import os, sys\nfor number in ({closed},): os.close(number)\nos.execv(sys.argv[1], sys.argv[1:])"
    arguments = ("gen", "rain", "-m", miniature, "-o", "a.wav", "--seconds", 0.1, "--steps", 1)
    done = processes.run([sys.executable, "-c", code, processes.COMMAND, *arguments], cwd=tmp_path)
    assert done.returncode == 0
    assert os.listdir(tmp_path) == ["a.wav"]
    assert soundfile.info(tmp_path / "a.wav").frames == 4410
    assert done.stdout == ("" if "1" in closed else "a.wav\n")
    assert ("model miniature" in done.stderr) == ("2" not in closed)


@posix
def test_a_closed_stdout_takes_no_clip(miniature, tmp_path):
    code = "import os, sys\nos.close(1)\nos.execv(sys.argv[1], sys.argv[1:])"
    arguments = ("gen", "rain", "-m", miniature, "-o", "-", *BEFORE)
    done = processes.run([sys.executable, "-c", code, processes.COMMAND, *arguments], cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == "error: stdout is closed; write the clip to a file\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("arguments", [["-o", "a.wav"], ["-o", "a.wav", "--json"], ["-o", "-"]])
def test_a_full_stdout(miniature, tmp_path, arguments):
    with Path("/dev/full").open("wb") as full:
        done = processes.run([processes.COMMAND, "gen", "rain", "-m", miniature, *QUICK, *arguments], cwd=tmp_path, stdout=full)
    assert done.returncode == 1
    assert done.stderr == ("" if "--json" in arguments else "error: stdout cannot be written: No space left on device\n")
    assert os.listdir(tmp_path) == ([] if "-" in arguments else ["a.wav"])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_stdout_of_another_command(miniature, tmp_path):
    with Path("/dev/full").open("wb") as full:
        done = processes.run([processes.COMMAND, "inspect", miniature], cwd=tmp_path, stdout=full)
    assert (done.returncode, done.stderr) == (1, "error: stdout cannot be written: No space left on device\n")


@posix
def test_a_full_stderr(miniature, tmp_path):
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    with Path("/dev/full").open("wb") as full:
        done = processes.run([processes.COMMAND, "gen", "x", "-m", miniature, *QUICK[:-1], "-v"], cwd=tmp_path, stderr=full)
    assert done.returncode == 0
    assert (tmp_path / done.stdout.strip()).is_file()


def _on_a_terminal(arguments, folder, shown_on="stdout"):
    """The exit code of a command, and what it wrote to a terminal."""
    pty = pytest.importorskip("pty")
    controller, terminal = pty.openpty()
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL} | {shown_on: terminal}
    with processes.started([processes.COMMAND, *arguments], cwd=folder, **streams) as process:
        os.close(terminal)
        written = b""
        try:
            while chunk := os.read(controller, 4096):
                written += chunk
        except OSError:  # The terminal closes when the process ends.
            pass
        process.wait(processes.GUARD)
    os.close(controller)
    return process.returncode, written.replace(b"\r\n", b"\n")


def test_a_terminal_takes_no_clip(miniature, tmp_path):
    arguments = ("gen", "rain", "-m", miniature, "-o", "-")
    assert _on_a_terminal(arguments, tmp_path) == (2, b"")
    done = processes.run([processes.COMMAND, *arguments, *QUICK], cwd=tmp_path, text=False)
    assert done.stdout.startswith(b"RIFF")


@posix
def test_a_terminal_is_never_steered(miniature, tmp_path):
    """By a name that came with a file, or by a mistake that quotes it."""
    name = "a\x1b]0;owned\x07\u202e\x9b31m\udce9.wav"
    arguments = ("gen", "rain", "-m", miniature, "-o", name, *QUICK)
    shown = rb"a\x1b]0;owned\x07\u202e\x9b31m\xe9.wav"
    assert _on_a_terminal(arguments, tmp_path) == (0, shown + b"\n")
    code, refused = _on_a_terminal(arguments, tmp_path, "stderr")
    assert code == 1
    assert refused.startswith(b"error: " + shown + b" exists")
    code, usage = _on_a_terminal(("gen", "rain", "--\x1b[31m"), tmp_path, "stderr")
    assert code == 2
    assert b"\x1b" not in usage
    assert rb"--\x1b[31m" in usage


def test_prompts_from_stdin(gen, tmp_path):
    for text, prompt in (("soft rain\n", "soft rain"), ("\ufeffdoor\r\n", "door"), ("a\nb", "a\nb")):
        done = gen("-", "-o", "a.wav", "--force", *QUICK, input=text)
        assert done.returncode == 0, done.stderr
        assert read_provenance(tmp_path / "a.wav").prompt == prompt


def test_what_is_no_prompt_on_stdin(miniature, tmp_path):
    for data, problem in ((b"caf\xe9", "no UTF-8 text: byte 0xe9 at 3"), (b"a" * 100_001, "more than 100,000 bytes")):
        (tmp_path / "prompt").write_bytes(data)
        with (tmp_path / "prompt").open("rb") as stream:
            done = processes.run([processes.COMMAND, "gen", "-", "-m", miniature, *BEFORE], cwd=tmp_path, stdin=stream)
        assert done.returncode == 2
        assert problem in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "kind", "message"),
    [
        (["gen", "rain", "--seed", "-1"], 2, "RequestError", "seed is -1"),
        (["gen", "rain", "-m", "nothing here"], 3, "BundleNotFoundError", "nothing here"),
        (["gen", "rain", "--nonsense"], 2, "UsageError", "--nonsense"),
        (["gen", "rain", "--steps", "x"], 2, "UsageError", "--steps"),
        (["gen"], 2, "UsageError", "the prompt is missing"),
        (["nonsense"], 2, "UsageError", "nonsense"),
        (["inspect", "nothing here"], 3, "BundleNotFoundError", "nothing here"),
    ],
)
def test_errors_in_json(command, tmp_path, arguments, code, kind, message):
    done = command(*arguments, "--json")
    assert done.returncode == code
    error = json.loads(done.stdout)["error"]
    assert set(error) == {"type", "message"}
    assert error["type"] == kind
    assert message in error["message"]
    assert done.stderr == ""
    assert os.listdir(tmp_path) == []


def test_the_clip_outlives_what_is_made_of_it(gen, tmp_path, monkeypatch):
    """Pictures and sidecars come after the clip, whose name is printed by then."""
    done = gen("rain", "-o", "a.wav", "--json", "--plot", "a.png", *QUICK)
    assert done.returncode == 0, done.stderr
    assert sorted(os.listdir(tmp_path)) == ["a.json", "a.png", "a.wav"]
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)); sys.argv[0] = 'sao-onnx'\n"
        "from sao_onnx.cli import main; main()"
    )
    pytest.importorskip("resource")
    arguments = (
        "gen",
        "rain",
        "-o",
        "b.wav",
        "--plot",
        "b.png",
        *QUICK,
        "-m",
        Path(__file__).parent.parent / "models/miniature/bundle",
    )
    done = processes.run([sys.executable, "-c", limited, *arguments], cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "b.wav\n")
    assert done.stderr == "error: b.png cannot be written: File too large\n"
    assert sorted(os.listdir(tmp_path)) == ["a.json", "a.png", "a.wav", "b.wav"]


def test_a_preview_that_fails_does_not_stop_the_clip(miniature, tmp_path):
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)); sys.argv[0] = 'sao-onnx'\n"
        "from sao_onnx.cli import main; main()"
    )
    pytest.importorskip("resource")
    arguments = ("gen", "rain", "-m", miniature, "-o", "a.wav", "--preview", "p.wav", "--seconds", 0.1, "--steps", 4, "-q")
    done = processes.run([sys.executable, "-c", limited, *arguments], cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "a.wav\n")
    assert done.stderr == "warning: p.wav cannot be written: File too large; the clip goes on without a preview\n"
    assert os.listdir(tmp_path) == ["a.wav"]


def test_a_prompt_of_formulas_can_be_drawn(gen, tmp_path):
    done = gen(r"$\rain$ and ${}$", "-o", "a.wav", "--plot", "a.svg", *QUICK)
    assert (done.returncode, done.stdout) == (0, "a.wav\n"), done.stderr
    assert (tmp_path / "a.svg").is_file()


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("雨の音、ピアノ", "雨の音-ピアノ"),
        ("कोमल वर्षा", "कोमल-वर्षा"),
        ("Cafe\u0301 NOIR", "café-noir"),
        ("a\u202eb\x1b[31m\u200b", "ab-31m"),
        ("\u3164\u115f\ufe0f", "clip"),
        ("🎵 drum", "drum"),
        ("\u0301rain", "rain"),
        ("NUL", "nul-clip"),
        ("\udce9", "clip"),
        ("ß" * 50, "ß" * 30),
        ("", "clip"),
    ],
)
def test_slugs_of_all_scripts(prompt, expected):
    assert slug(prompt) == expected


@pytest.mark.parametrize(
    "template", ["{", "{x}", "{seed:{prompt}}", "{seed:999999999}", "{prompt:9999}", "{prompt.__class__}", "{0}", "{seed:q}"]
)
def test_templates_that_are_none(template):
    with pytest.raises(RequestError, match="the name "):
        file_name(template, prompt="a", seed=1, index=1)


def test_templates_for_several():
    assert for_several("") == ""
    assert fields("{{a}}") == set()


def test_options_without_effect_are_told(gen):
    for arguments, message in (
        (("--loudness", -20), "warning: loudness has no effect without normalize lufs\n"),
        (("--preview", "p.wav"), "warning: there was no preview, because there are too few steps\n"),
        (("--loudness", -20, "--normalize", "lufs"), ""),
    ):
        loud = [word for word in QUICK if word != "-q"]
        done = gen("rain", "-o", "a.wav", "--force", *loud, *arguments)
        told = [line for line in done.stderr.splitlines(keepends=True) if line.startswith("warning")]
        assert (done.returncode, "".join(told)) == (0, message)


def test_options_of_tune_that_exclude_each_other(command, miniature):
    for arguments in (("--show", "--reset"), ("--show", "--budget", 3), ("--reset", "--budget", 3)):
        done = command("tune", miniature, *arguments)
        assert done.returncode == 2
        assert "exclude each other" in done.stderr


def test_reset_of_a_tuning_in_json(command, miniature):
    assert json.loads(command("tune", miniature, "--reset", "--json").stdout)["removed"] is False
