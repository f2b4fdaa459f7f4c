"""Settings: which of them decides, what is refused and how, and that what applies is told."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tomllib

import pytest
from typer.testing import CliRunner

from sao_onnx.cli import app
from sao_onnx.cli.config import starter
from sao_onnx.cli.settings import ONCE, OTHERS, commands, shared_keys
from sao_onnx.option import RECORDING
from sao_onnx.places import folders_and_words
from sao_onnx.provenance import read_provenance
from sao_onnx.request import kinds
from tests.processes import run as run_process
from tests.test_house import ENGINE


@pytest.fixture
def call(miniature, tmp_path):
    """Runs a command with a file of settings and variables of the environment."""

    def run(*words, settings="", **environment):
        file = tmp_path / "settings.toml"
        if isinstance(settings, bytes):
            file.write_bytes(settings)
        else:
            file.write_text(settings, encoding="utf-8")
        variables = {"SAO_ONNX_CONFIG": str(file), "COLUMNS": "120"} | environment
        return CliRunner().invoke(app, [str(word) for word in words], env=variables)

    return run


@pytest.fixture
def plan(call, miniature):
    """What `gen --dry-run` says."""

    def run(*words, **about):
        done = call("gen", "rain", "--dry-run", "--json", "-m", miniature, *words, **about)
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    return run


def _steps(about):
    return about["windows"][0]["steps"]


def test_the_order(plan):
    layers = {"settings": "steps = 2\n", "own table": "steps = 2\n[gen]\nsteps = 3\n"}
    assert _steps(plan()) not in (2, 3, 4, 5, 6)
    assert _steps(plan(settings=layers["settings"])) == 2
    assert _steps(plan(settings=layers["own table"])) == 3
    assert _steps(plan(settings=layers["own table"], SAO_ONNX_STEPS="4")) == 4
    assert _steps(plan(settings=layers["own table"], SAO_ONNX_STEPS="4", SAO_ONNX_GEN_STEPS="5")) == 5
    assert _steps(plan("--steps", 6, settings=layers["own table"], SAO_ONNX_STEPS="4", SAO_ONNX_GEN_STEPS="5")) == 6
    # A variable of blanks is none.
    assert _steps(plan(settings=layers["settings"], SAO_ONNX_STEPS=" ")) == 2


def test_what_applies_is_told(plan, call, miniature):
    told = plan(settings='steps = 2\n\n[gen]\n"sampler" = "euler"\n', SAO_ONNX_CFG_SCALE="2")["settings"]
    assert {key: row["value"] for key, row in told.items()} == {"steps": 2, "sampler": "euler", "cfg_scale": 2}
    assert told["steps"]["from"].endswith("settings.toml, line 1")
    assert told["sampler"]["from"].endswith("settings.toml, line 4")
    assert told["cfg_scale"]["from"] == "SAO_ONNX_CFG_SCALE"
    shown = call("gen", "rain", "--dry-run", "-m", miniature, settings="steps = 2\n").stdout
    assert "setting     steps 2, from " in shown
    assert plan()["settings"] == {}


def test_other_spellings_decide_about_the_same_option(plan, call):
    """`--fade-out` of the command line leaves the other half of a fade to the file, and `--strength` is a noise level."""
    told = plan("--fade-out", 0.2, settings='fade = "0.01:0.5"\n')["settings"]
    assert {key: row["value"] for key, row in told.items()} == {"fade_in": 0.01}
    assert plan("--fade", "0.1:0.2", settings="fade_in = 0.3\nfade_out = 0.4\n")["settings"] == {}
    assert plan("--cfg", 2, settings="cfg_scale = 3\n")["settings"] == {}
    for twice in ("cfg = 2\ncfg_scale = 3\n", 'fade = "0.1"\nfade-in = 0.2\n'):
        done = call("gen", "rain", settings=twice)
        assert done.exit_code == 2
        assert "line 2: " in done.output
        assert "is set twice" in done.output


def test_flags_can_be_taken_back(call, miniature, tmp_path):
    where = ["-m", miniature, "--steps", 1, "--seconds", 0.1, "--seed", 1, "--force", "-o", tmp_path / "a.wav"]
    for words, mono in (((), True), (("--no-mono",), None)):
        assert call("gen", "rain", *where, *words, settings="mono = true\n").exit_code == 0
        assert read_provenance(tmp_path / "a.wav").options.get("mono") is mono


def test_all_types(plan, call, miniature, tmp_path):
    settings = (
        "seconds = 1\nsteps = 1\nloop = true\ncfg-scale = 2.5\nnegative_prompt = 'hiss'\nnumbers = { seconds_total = 3 }\n"
        f"[gen]\noutput = '{{seed}}-{{prompt}}.flac'\ncount = 2\nseed = 5\nmodel = '{miniature.as_posix()}'\n"
    )
    about = json.loads(call("gen", "rain", "--dry-run", "--json", settings=settings).stdout)
    assert about["files"] == ["5-rain.flac", "6-rain.flac"]
    assert about["windows"][0]["numbers"]["seconds_total"] == 3
    assert about["guidance"]["scale"] == 2.5
    assert len(about["settings"]) == 10
    # As a table of its own, and as a variable.
    assert plan(settings="[numbers]\nseconds_total = 3\n")["windows"][0]["numbers"]["seconds_total"] == 3
    assert plan(SAO_ONNX_NUMBERS="seconds_total=3")["windows"][0]["numbers"]["seconds_total"] == 3


def test_a_clip_that_is_made_again_is_made_as_its_file_says(call, miniature, tmp_path):
    first, again = tmp_path / "first.wav", tmp_path / "again.wav"
    made = ["-m", miniature, "--seconds", 0.2, "--seed", 3]
    assert call("gen", "rain", *made, "-o", first, settings='steps = 2\nsampler = "euler"\nprecision = "fp32"\n').exit_code == 0
    found = read_provenance(first)
    # The recipe says what applied, whoever said it.
    assert (found.options["steps"], found.options["sampler"], found.precision) == (2, "euler", "fp32")
    other = 'steps = 1\nmono = true\nsampler = "pingpong"\nprecision = "int8"\nbits = 24\nfade_out = 0.1\n'
    done = call("gen", "--from", first, "-m", miniature, "-o", again, settings=other)
    assert done.exit_code == 0, done.output
    assert again.read_bytes() == first.read_bytes()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("stpes = 2\n", "line 1: there is no setting 'stpes' before the first table; did you mean steps?"),
        ("\n[gen]\nstpes = 2\n", "line 3: there is no setting 'stpes' in [gen]; did you mean steps?"),
        ("\n[gne]\nsteps = 2\n", "line 2: there is no table [gne]; did you mean [gen]?"),
        ("[xyzzy]\n", "line 1: there is no table [xyzzy]; known: gen, batch"),
        ("[convert]\n", "there is no table [convert]"),
        ("port = 80\n", "line 1: there is no setting 'port' before the first table; it belongs into [serve]"),
        ("dry_run = true\n", "there is no setting 'dry_run'"),
        ("init_audio = 'a.wav'\n", "there is no setting 'init_audio'"),
        ('seconds = 1\nsteps = "8"\n', "line 2: steps is '8'; expected a whole number, without quotes"),
        ("steps = 0\n", "line 1: steps is 0, expected 1 to 1000000"),
        ("steps = true\n", "line 1: steps is true, expected a whole number"),
        ("steps = 1.5\n", "steps is 1.5, expected a whole number"),
        ("steps = [1]\n", "steps is [1], expected one value"),
        ("seconds = nan\n", "seconds is nan, expected a finite number"),
        ("seconds = 1979-05-27\n", "seconds is 1979-05-27; expected a number"),
        ('sampler = "Eulr"\n', "expected pingpong or euler or dpmpp; did you mean 'euler'?"),
        ("mono = 1\n", "mono is 1; expected true or false"),
        ('precision = "int4"\n', "precision is 'int4', expected int8 or fp32; did you mean 'int8'?"),
        ("threads = 0.5\n", "threads is 0.5, expected a whole number, without quotes"),
        ("bits = 17\n", "bits is 17, expected 16 or 24 or 32"),
        ("[serve]\nport = 70000\n", "line 2: port is 70000, expected 0 to 65535"),
        ("[serve]\nunload_after = inf\n", "unload_after is inf, expected a finite number"),
        ("[serve]\nhost = 1\n", "host is 1, expected text, in quotes"),
        ("[gen]\ncount = 0\n", "count is 0, expected at least 1"),
        ("numbers = 3\n", "expected NAME=VALUE"),
        ("sampler = ''\n", "sampler is '', expected one value that is not empty"),
        ("model = ''\n", "model is empty; leave the line out, or give it a value"),
        ("steps = eight\n", "is no TOML: "),
        ("steps = 1\nsteps = 2\n", "line 2: steps is there twice; leave one of the two out"),
        ("[gen]\nsteps = 1\n[gen]\n", "line 3: the table [gen] is there twice"),
        ("fade-out = 1\nfade_out = 2\n", "line 2: fade_out is set twice, as fade-out and as fade_out; set it once"),
        ("gen = 3\n", "line 1: gen is the name of a table: write [gen] in one line"),
        ("[[gen]]\nsteps = 1\n", "line 1: gen is the name of a table: write [gen] in one line"),
        ("[gen.x]\na = 1\n", "line 1: there is no table [gen.x]; settings stand below [gen]"),
        ("\n[[gen.x]]\na = 1\n", "line 2: there is no table [gen.x]; settings stand below [gen]"),
        ("steps = {a = 1}\n", "steps is a table, expected one value, as in: steps ="),
        ("[gen]\nsteps.x = true\n", "steps is {x = true}; expected a whole number"),
        ("sampler = 07:32:00\n", "sampler is 07:32:00; expected text, in quotes"),
        ("[gen]\nmodel = false\n", "line 2: model is false, expected text, in quotes"),
        ("mono = True\n", "write true, in small letters"),
        ("steps: 8\n", "joined by an equals sign"),
        ("a = " + "[" * 5000 + "]" * 5000, "is n"),
        ("steps = " + "9" * 5000 + "\n", "settings.toml"),
        (b"\x00\x01\x02", "is no TOML: "),
        ("steps = 2".encode("utf-16"), "is no UTF-8 text: byte 0xff at 0; save it as UTF-8"),
        (b"\xe9 = 1", "is no UTF-8 text"),
        (b"#" * 1_000_001, "is larger than expected: more than 1,000,000 bytes"),
    ],
)
def test_mistakes_are_named(call, settings, message):
    """Whichever command they are about: `config` and `gen` find the same."""
    for words in (("config",), ("gen", "rain", "--dry-run")):
        if words[0] == "gen" and str(settings).startswith("[serve]"):
            continue  # Values of other commands are looked at by `config` and by the command.
        done = call(*words, settings=settings)
        assert done.exit_code in (1, 2), done.output
        assert message in done.output
        assert "settings.toml" in done.output
        assert len(done.output.strip().splitlines()) == 1
        assert "Traceback" not in done.output


def test_mistakes_of_variables(call):
    for name, value, message in (
        ("SAO_ONNX_STEPS", "x", "SAO_ONNX_STEPS: steps is 'x'; expected a whole number"),
        ("SAO_ONNX_GEN_COUNT", "0", "SAO_ONNX_GEN_COUNT: count is 0, expected at least 1"),
        ("SAO_ONNX_MONO", "maybe", "SAO_ONNX_MONO: mono is 'maybe'; expected true or false"),
    ):
        done = call("gen", "rain", **{name: value})
        assert (done.exit_code, done.output) == (2, f"error: {message}\n")
        failed = json.loads(call("gen", "rain", "--json", **{name: value}).stdout)
        assert failed == {"error": {"type": "RequestError", "message": message}}
    warned = call("config", SAO_ONNX_STPES="3").output
    assert "the variable SAO_ONNX_STPES means nothing; did you mean SAO_ONNX_STEPS?" in warned


@pytest.mark.parametrize("kind", ["folder", "fifo", "device", "unreadable", "missing", "circle"])
def test_what_is_no_file(call, tmp_path, kind):
    path = tmp_path / "strange.toml"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        if not hasattr(os, "mkfifo"):
            pytest.skip("this system has no FIFOs")
        os.mkfifo(path)
    elif kind in ("device", "circle"):
        if sys.platform == "win32":
            pytest.skip("links need a right there")
        path.symlink_to("/dev/zero" if kind == "device" else path.name)
    elif kind == "unreadable":
        path.write_text("steps = 2\n")
        path.chmod(0)
        if os.access(path, os.R_OK):
            pytest.skip("this user may read everything")
    done = call("gen", "rain", SAO_ONNX_CONFIG=str(path))
    assert done.exit_code in (1, 2)
    assert "strange.toml" in done.output
    assert "Traceback" not in done.output


def test_the_users_own_place(call, monkeypatch, tmp_path):
    """Without the variable it is where this system keeps settings; for a user without a home there is none."""
    monkeypatch.setattr("platformdirs.user_config_path", lambda name: tmp_path / name)
    assert call("config", "--init", SAO_ONNX_CONFIG="").stdout.strip() == str(tmp_path / "sao-onnx" / "config.toml")
    (tmp_path / "sao-onnx" / "config.toml").write_text("steps = 2\n")
    assert "steps 2" in call("config", SAO_ONNX_CONFIG="").stdout
    assert "steps 2" not in call("config", SAO_ONNX_CONFIG=os.devnull).stdout

    def homeless(name):
        raise RuntimeError("no home")

    monkeypatch.setattr("platformdirs.user_config_path", homeless)
    assert "file        none" in call("config", SAO_ONNX_CONFIG="").stdout


@pytest.mark.skipif(sys.platform != "linux", reason="the variable is that of Linux")
def test_xdg_is_obeyed(call, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    assert str(tmp_path / "xdg" / "sao-onnx" / "config.toml") in call("config", SAO_ONNX_CONFIG="").stdout


def test_a_variable_that_other_commands_have(call):
    """Every command that has the option is named, and variables of the library are known."""
    shown = call("config", SAO_ONNX_JOBS="2", SAO_ONNX_COUNT="2", SAO_ONNX_OPS="off").output
    assert "SAO_ONNX_JOBS means nothing; did you mean SAO_ONNX_BATCH_JOBS, SAO_ONNX_SERVE_JOBS or SAO_ONNX_MCP_JOBS?" in shown
    assert "SAO_ONNX_COUNT means nothing; did you mean SAO_ONNX_GEN_COUNT?" in shown
    assert "SAO_ONNX_OPS" not in shown


def test_every_variable_of_the_library_is_known():
    named = {name for path in ENGINE.rglob("*.py") for name in re.findall(r'"SAO_ONNX_([A-Z]+)"', path.read_text("utf-8"))}
    assert {"CONFIG", "MODEL", "OPS"} <= named
    assert named - {"CONFIG", "MODEL"} <= set(OTHERS)


def test_models_in_folders_with_spaces(monkeypatch, tmp_path):
    """Words that together name a folder are one model; all others are one each."""
    monkeypatch.chdir(tmp_path)
    for name in ("my models/deep  house", "my models/rain", "my"):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
    for text, models in (
        ("one two", ["one", "two"]),
        (" my  one ", ["my", "one"]),
        ("my models/deep  house", ["my models/deep  house"]),
        ("my models/rain my models/deep  house one", ["my models/rain", "my models/deep  house", "one"]),
        (f"{tmp_path}/my models/rain", [f"{tmp_path}/my models/rain"]),
        ("x " + "y" * 5_000, ["x", "y" * 5_000]),
    ):
        assert folders_and_words(text) == models


def test_the_file_to_begin_with(call, tmp_path):
    path = tmp_path / "new" / "config.toml"
    assert call("config", "--init", SAO_ONNX_CONFIG=str(path)).exit_code == 0
    text = path.read_text(encoding="utf-8")
    assert tomllib.loads(text) == {name: {} for name, keys in commands().items() if keys.keys() - shared_keys().keys()}
    assert call("config", "--init", SAO_ONNX_CONFIG=str(path)).exit_code == 1
    assert call("config", "--init", "--force", SAO_ONNX_CONFIG=str(path)).exit_code == 0
    # Every line of it is right as soon as its # is gone.
    shown = call("config", settings=text.replace("\n#", "\n").replace("\n ", "\n# "))
    assert shown.exit_code == 0, shown.output
    for name, keys in commands().items():
        for key, option in keys.items():
            if option.kind is None or key in kinds():
                assert f"#{key} = " in starter() or key not in option.keys[:1], (name, key)


def test_every_option_of_a_request_but_those_of_a_recording_can_be_set():
    wanted = {name for name, kind in kinds().items() if kind.option.on_command_line and kind.option.task != RECORDING}
    assert wanted <= shared_keys().keys()
    assert not {name for name, kind in kinds().items() if kind.option.task == RECORDING} & shared_keys().keys()
    for keys in commands().values():
        assert not {option.name for option in keys.values()} & set(ONCE)


def test_the_model_of_a_setting(call, miniature, tmp_path):
    shutil.copytree(miniature, tmp_path / "mine")
    settings = f"model = '{(tmp_path / 'mine').as_posix()}'\n"
    assert "miniature" in call("inspect", settings=settings).stdout
    assert call("verify", settings=settings).exit_code == 0
    assert f"* {(tmp_path / 'mine').as_posix()} (from " in call("models", settings=settings).stdout
    done = call("inspect", settings="model = 'gone'\n")
    assert done.exit_code == 3
    assert "the model gone is named by " in done.output
    assert "settings.toml, line 1" in done.output


def test_the_library_reads_none(miniature, tmp_path):
    (tmp_path / "settings.toml").write_text("steps = 'nonsense'\n")
    code = "import sys, sao_onnx; sao_onnx.load(sys.argv[1]).plan(sao_onnx.Request('rain')); sys.exit('tomllib' in sys.modules)"
    environment = os.environ | {"SAO_ONNX_CONFIG": str(tmp_path / "settings.toml"), "SAO_ONNX_STEPS": "nonsense"}
    done = run_process([sys.executable, "-c", code, miniature], env=environment)
    assert done.returncode == 0, done.stderr


def test_help_reads_none(call):
    """And no library for it is loaded where there is no file."""
    assert call("gen", "--help", settings="nonsense").exit_code == 0
    code = (
        "import sys; from sao_onnx.cli import main\ntry: main()\nfinally:\n    if 'tomllib' in sys.modules: sys.exit('loaded')"
    )
    for words in (["gen", "--help"], ["config"]):
        done = run_process([sys.executable, "-c", code, *words])
        assert done.returncode == 0, done.stderr
