"""The command as a process: what it prints where, its exit codes, and what it leaves behind."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from models.sao_tiny import listen
from sao_onnx.provenance import read_provenance
from tests import processes
from tests.processes import COMMAND, interrupt, started, wait_until


def run(*arguments, cwd=None, text=True, **environment):
    return processes.run([COMMAND, *arguments], cwd=cwd, text=text, env=os.environ | {"COLUMNS": "120"} | environment)


def start(*arguments, cwd, **options):
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return started([COMMAND, *arguments], cwd=cwd, **pipes, **options)


@pytest.fixture
def gen(miniature, tmp_path):
    def call(*arguments, **options):
        return run("gen", *arguments, "--model", miniature, cwd=tmp_path, **options)

    return call


def test_gen(gen, tmp_path):
    done = gen("Tech house, 128 BPM!", "--seconds", 1.5, "--seed", 7)
    assert done.returncode == 0
    assert done.stdout == "tech-house-128-bpm-7.wav\n"
    assert "seed 7" in done.stderr
    samples, rate = soundfile.read(tmp_path / "tech-house-128-bpm-7.wav")
    assert samples.shape == (66150, 2)
    assert rate == 44100
    assert np.abs(samples).max() > 0.99
    assert os.listdir(tmp_path) == ["tech-house-128-bpm-7.wav"]


def test_gen_is_what_the_library_generates(gen, engine, tmp_path):
    options = ("--seconds", 1, "--seed", 7, "--steps", 3, "--sampler", "euler", "--cfg", 2)
    assert gen("rain", "-o", "a.wav", "--precision", "fp32", "--bits", 32, *options).returncode == 0
    clip = engine.generate("rain", seconds=1, seed=7, steps=3, sampler="euler", cfg_scale=2)
    np.testing.assert_allclose(soundfile.read(tmp_path / "a.wav")[0].T, clip.samples, atol=1e-5)


def test_gen_json(gen, tmp_path):
    done = gen("rain", "-o", "a.flac", "--json", "--seed", 3, "--seconds", 1)
    report = json.loads(done.stdout)
    assert done.stderr == ""
    assert report["file"] == "a.flac"
    assert report["seed"] == 3
    assert report["seconds"] == 1
    assert report["precision"] == "int8"
    assert set(report["timings"]) == {"load", "conditioning", "encoding", "sampling", "decoding", "total"}
    assert report["peak_memory"] > 1e7
    assert soundfile.info(tmp_path / "a.flac").format == "FLAC"


def test_gen_to_stdout(gen, tmp_path):
    done = gen("rain", "-o", "-", "--seed", 3, "--seconds", 0.5, text=False)
    samples, _ = soundfile.read(io.BytesIO(done.stdout))
    assert samples.shape == (22050, 2)
    assert os.listdir(tmp_path) == []


def test_gen_quiet_and_verbose(gen):
    assert gen("rain", "-o", "a.wav", "-q", "--seconds", 0.2).stderr == ""
    loud = gen("rain", "-o", "b.wav", "-v", "--seconds", 0.2)
    assert "miniature, int8, window 3.99 s at 44100 Hz" in loud.stderr
    assert "peak memory" in loud.stderr
    assert loud.stdout == "b.wav\n"


def test_gen_init(gen, engine, tmp_path):
    assert gen("rain", "-o", "a.wav", "--seconds", 1, "--seed", 1).returncode == 0
    shared = ("--seconds", 1, "--seed", 2, "--bits", 32, "--precision", "fp32")
    assert gen("kick", "-o", "b.wav", "--init", "a.wav", "--strength", 0.25, *shared).returncode == 0
    clip = engine.generate("kick", seconds=1, seed=2, init_audio=tmp_path / "a.wav", init_noise_level=0.34)
    np.testing.assert_allclose(soundfile.read(tmp_path / "b.wav")[0].T, clip.samples, atol=1e-5)
    found = read_provenance(tmp_path / "b.wav")
    assert found.init_audio == "a.wav"
    assert found.options["init_noise_level"] == pytest.approx(0.34)


def test_model_from_the_environment(miniature, tmp_path):
    done = run("gen", "rain", "--seconds", 0.2, "-o", "a.wav", cwd=tmp_path, SAO_ONNX_MODEL=str(miniature))
    assert done.returncode == 0
    assert read_provenance(tmp_path / "a.wav").model == "miniature"


def test_warnings_are_one_line(gen):
    done = gen("kick " * 100, "-o", "a.wav", "--seconds", 0.2, "--negative", "hiss")
    assert done.returncode == 0
    lines = [line for line in done.stderr.splitlines() if line.startswith("warning: ")]
    assert len(lines) == 2
    assert "no effect without guidance" in lines[0]
    assert "it was cut before 'kick" in lines[1]
    assert "Warning" not in done.stderr


def test_a_file_is_never_replaced_unasked(gen, tmp_path):
    (tmp_path / "a.wav").write_bytes(b"mine")
    (tmp_path / "rain-5.wav").write_bytes(b"mine")
    for arguments in (("-o", "a.wav"), ("--seed", 5)):
        done = gen("rain", *arguments, "--steps", 100_000)  # It must refuse before the work.
        assert done.returncode == 1
        assert "exists; choose another name, or allow it to be replaced (--force)" in done.stderr
    assert (tmp_path / "a.wav").read_bytes() == b"mine"
    assert gen("rain", "-o", "a.wav", "--seconds", 0.2, "--force").returncode == 0
    assert soundfile.info(tmp_path / "a.wav").frames == 8820


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--seconds", "4000"], 2, "at most 3600"),
        (["--seconds", "nan"], 2, "seconds is nan"),
        (["--seconds", "long"], 2, "--seconds"),
        (["--steps", "0"], 2, "steps is 0"),
        (["--seed", "-1"], 2, "seed is -1"),
        (["--seed", "4294967295", "--count", "2"], 2, "expected seeds of 0 to 4294967295"),
        (["--sampler", "ddim"], 2, "sampler is 'ddim', expected pingpong or euler or dpmpp"),
        (["--cfg", "inf"], 2, "cfg_scale is inf"),
        (["--threads", "0"], 2, "threads is 0"),
        (["--strength", "0.5"], 2, "strength, needs initial audio to start from"),
        (["--init", "nothing.wav"], 1, "nothing.wav does not exist"),
        (["--precision", "int3"], 2, "holds int8, fp32, not 'int3'"),
        (["-o", "a.xyz"], 2, "no known suffix"),
        (["-o", "a"], 2, "no known suffix"),
        (["-o", "x/a.wav"], 1, "the folder x does not exist"),
        (["-o", "-", "--count", "2"], 2, "takes one clip and nothing else"),
        (["--quiet", "--verbose"], 2, "exclude each other"),
        (["--bits", "8"], 2, "known: 16, 24, 32"),
        (["--nonsense"], 2, "--nonsense"),
    ],
)
def test_bad_requests(gen, tmp_path, arguments, code, message):
    done = gen("rain", *arguments)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert os.listdir(tmp_path) == []


def test_bad_strength(gen, tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(100), 44100)
    done = gen("rain", "--init", "a.wav", "--strength", 2)
    assert done.returncode == 2
    assert "strength is '2'; expected 0 (close to the audio) to 1 (ignores it)" in done.stderr


def test_the_first_command(tmp_path):
    """What a new user types, who has no model and sets nothing."""
    environment = {name: value for name, value in os.environ.items() if name != "SAO_ONNX_MODEL"}
    done = processes.run([COMMAND, "gen", "120 BPM drum loop", "--seed", "5"], cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "120-bpm-drum-loop-5.wav\n"
    assert "model sao-tiny" in done.stderr
    samples, _ = soundfile.read(tmp_path / "120-bpm-drum-loop-5.wav")
    assert abs(listen.tempo(samples.T) / 120 - 1) < 0.03


def test_bad_bundles(bundle, tmp_path):
    empty = run("gen", "rain", "--model", tmp_path)
    assert empty.returncode == 3
    assert f"{tmp_path} holds no manifest.json" in empty.stderr
    path = bundle / "fp32" / "dit.onnx.data"
    data = bytearray(path.read_bytes())
    data[5000] ^= 4
    path.write_bytes(data)
    done = run("verify", bundle)
    assert done.returncode == 3
    assert "fp32/dit.onnx.data is damaged" in done.stderr
    assert done.stdout == ""
    path.write_bytes(data[:-1])
    for command in (["verify"], ["inspect"], ["gen", "rain", "--model"]):
        done = run(*command, bundle)
        assert done.returncode == 3
        assert "fp32/dit.onnx.data has" in done.stderr


def test_verify(miniature):
    done = run("verify", miniature)
    assert done.returncode == 0
    assert "files are as they should be" in done.stdout
    assert json.loads(run("verify", miniature, "--json").stdout)["ok"] is True


def test_inspect(miniature):
    done = run("inspect", miniature)
    assert done.returncode == 0
    for text in ("2 channels at 44100 Hz", "seconds_total (0 to 256)", "8 steps of pingpong", "decoder_2", "torch 2."):
        assert text in done.stdout
    assert json.loads(run("inspect", miniature, "--json").stdout)["audio"]["window"] == 176128


def test_doctor(miniature):
    done = run("doctor", "--model", miniature)
    assert done.returncode == 0
    for text in ("ONNX Runtime", "CPUExecutionProvider", "threads", "available of", "fits"):
        assert text in done.stdout
    report = json.loads(run("doctor", "--model", miniature, "--json").stdout)
    needs = report["bundle"]["peak_memory_of"]["int8"]
    assert 9e7 < report["bundle"]["peak_memory"]["int8"] == needs["one clip"] < needs["--jobs 2"] < needs["--jobs 4"]
    assert all(f"  {way} " in done.stdout for way in needs)
    assert report["cores"] >= 1


def test_doctor_tells_of_a_bundle_that_gains_by_converting_again(miniature, tmp_path):
    older = tmp_path / "older"
    shutil.copytree(miniature, older)
    manifest = json.loads((older / "manifest.json").read_text())
    del manifest["latents"]["margin"]
    (older / "manifest.json").write_text(json.dumps(manifest))
    assert "converted again" in run("doctor", "--model", older).stdout
    assert "converted again" not in run("doctor", "--model", miniature).stdout


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["gen", "--help"], ["tune", "--help"], ["convert", "--help"]])
def test_help_and_version_load_nothing_heavy(arguments):
    """So that they answer at once."""
    code = (
        "import sys; from sao_onnx.cli import main\n"
        "try: main()\n"
        "finally:\n"
        "    heavy = {'numpy', 'onnxruntime', 'tokenizers', 'soundfile', 'soxr', 'torch', 'sao_onnx_convert'}\n"
        "    if heavy & set(sys.modules): sys.exit(', '.join(heavy & set(sys.modules)))\n"
    )
    assert processes.succeed([sys.executable, "-c", code, *arguments])


def test_completion():
    done = run("--show-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert done.returncode == 0
    assert "_SAO_ONNX_COMPLETE" in done.stdout
    completed = run(_SAO_ONNX_COMPLETE="complete_bash", COMP_WORDS="sao-onnx ", COMP_CWORD="1")
    assert {"gen", "convert", "inspect", "verify", "doctor"} <= set(completed.stdout.split())


@pytest.mark.parametrize("number", [getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, n)])
def test_interrupted_gen(miniature, tmp_path, number):
    """Between steps that would take hours: it ends at once."""
    arguments = ("gen", "rain", "-m", miniature, "--steps", 1_000_000, "-o", "a.wav", "--preview", "sofar.wav")
    with start(*arguments, cwd=tmp_path) as process:
        wait_until((tmp_path / "sofar.wav").exists, process)
        code, stderr = interrupt(process, number)
    assert code == 130
    assert stderr == "interrupted\n"
    assert os.listdir(tmp_path) == ["sofar.wav"]


def test_a_gen_that_was_started_deaf_stays_deaf(miniature, tmp_path):
    """In the background of a script, Ctrl-C is not meant for it; a request to end is."""
    arguments = ("gen", "rain", "-m", miniature, "--steps", 1_000_000, "-o", "a.wav", "--preview", "sofar.wav")
    with start(*arguments, cwd=tmp_path, hears=False) as process:
        wait_until((tmp_path / "sofar.wav").exists, process)
        process.send_signal(signal.SIGINT)
        (tmp_path / "sofar.wav").unlink()
        # Made anew by the next step.
        wait_until((tmp_path / "sofar.wav").exists, process)
        assert interrupt(process, signal.SIGTERM) == (130, "interrupted\n")


def test_progress_on_a_terminal_only(miniature, tmp_path):
    pty = pytest.importorskip("pty")
    controller, terminal = pty.openpty()
    command = [COMMAND, "gen", "rain", "-m", miniature, "--steps", "40", "--seed", "1", "-o"]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    with started([*command, "a.wav"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=terminal, env=environment) as process:
        os.close(terminal)
        shown = b""
        try:
            while chunk := os.read(controller, 4096):
                shown += chunk
        except OSError:  # The terminal closes when the process ends.
            pass
        assert process.communicate(timeout=processes.GUARD)[0] == b"a.wav\n"
    os.close(controller)
    assert b"sampling" in shown
    assert b"100%" in shown
    assert b"seed 1" in shown
    plain = processes.run([*command, "b.wav"], cwd=tmp_path, env=environment, text=False)
    assert plain.stdout == b"b.wav\n"
    assert b"seed 1" in plain.stderr
    for drawn in (b"sampling", b"%", b"\r", b"\x1b"):
        assert drawn not in plain.stderr


def test_a_closed_pipe(miniature, tmp_path):
    """Its reader leaves after the first bytes."""
    command = [COMMAND, "gen", "rain", "-m", miniature, "--seconds", "3", "-q", "-o", "-"]
    with started(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None  # noqa: PT018
        assert process.stdout.read(4) == b"RIFF"
        process.stdout.close()
        assert process.stderr.read() == b""  # Neither of ours nor of Python's, which flushes at the end.
        process.wait(processes.GUARD)


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
sys.argv[:] = ["sao-onnx", *sys.argv[2:]]
from sao_onnx.cli import main
main()
"""


def _limited(size, *arguments, cwd):
    """Run the command where no file can grow past a size, as on a disk that is full."""
    pytest.importorskip("resource")
    return processes.run([sys.executable, "-c", LIMITED, size, *arguments], cwd=cwd)


def test_full_disk_leaves_no_file(miniature, tmp_path):
    done = _limited(50_000, "gen", "rain", "-m", miniature, "--seconds", 3, "-o", "a.wav", cwd=tmp_path)
    assert done.returncode == 1
    assert "a.wav cannot be written: File too large" in done.stderr
    assert os.listdir(tmp_path) == []


def test_convert(checkpoint, tmp_path):
    done = run("convert", checkpoint, "--t5", checkpoint / "t5", "-o", "bundle", "--precision", "fp32", "-v", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "bundle\n"
    for text in ("exporting dit", "checking decoder_2", "from PyTorch (allowed 1e-04)"):
        assert text in done.stderr
    assert run("verify", tmp_path / "bundle").returncode == 0
    again = run("convert", checkpoint, "--t5", checkpoint / "t5", "-o", "bundle", cwd=tmp_path)
    assert again.returncode == 1
    assert "use --force" in again.stderr


def test_convert_refuses(checkpoint, tmp_path):
    done = run("convert", checkpoint, "--t5", checkpoint / "t5", "-o", "bundle", "--precision", "int3", cwd=tmp_path)
    assert done.returncode == 2
    assert "'int3' is no precision; expected int8 or fp32" in done.stderr
    done = run("convert", tmp_path / "nothing at all", "--t5", checkpoint / "t5", "-o", "bundle", cwd=tmp_path)
    assert done.returncode == 1
    assert "neither a folder nor a repository" in done.stderr
    assert os.listdir(tmp_path) == []


def test_convert_notes_what_nobody_reads(checkpoint, tmp_path):
    """One line on stderr, none with --quiet; here before an error that ends the conversion."""
    folder = Path(shutil.copytree(checkpoint, tmp_path / "checkpoint"))
    config = json.loads((folder / "model_config.json").read_text()) | {"_comment": "ours"}
    (folder / "model_config.json").write_text(json.dumps(config), encoding="utf-8-sig")
    (folder / "model.safetensors").write_text("<!DOCTYPE html>\n<html>")
    for options, notes in ((), 1), (("--quiet",), 0):
        done = run("convert", folder, "--t5", folder / "t5", "-o", "bundle", *options, cwd=tmp_path)
        assert done.returncode == 1
        assert done.stderr.count("note: model_config.json: fields that have no effect and are not read: _comment\n") == notes
        assert "cannot be read as safetensors: it is a web page (HTML)" in done.stderr
        assert "Traceback" not in done.stderr


def test_convert_on_a_full_disk(checkpoint, tmp_path):
    done = _limited(50_000, "convert", checkpoint, "--t5", checkpoint / "t5", "-o", "bundle", cwd=tmp_path)
    assert done.returncode == 1
    assert "bundle cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("number", [getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, n)])
def test_interrupted_convert(checkpoint, tmp_path, number):
    with start("convert", checkpoint, "--t5", checkpoint / "t5", "-o", "bundle", cwd=tmp_path) as process:
        wait_until(lambda: list(tmp_path.glob(".bundle.*.partial/fp32/*")), process)
        code, stderr = interrupt(process, number)
    assert code == 130
    assert stderr.endswith("interrupted\n")
    assert os.listdir(tmp_path) == []
