"""What a veteran of command lines expects: help by task, short names, a plan before the work, and quiet that is quiet."""

from __future__ import annotations

import json
import sys

import pytest
from typer.testing import CliRunner

from sao_onnx.cli import app
from sao_onnx.option import LEVEL, LOOPS, RECORDING, SOUND
from sao_onnx.request import kinds
from tests.processes import run

COMMANDS = [
    [],
    *([name] for name in ("gen", "batch", "serve", "convert", "inspect", "verify", "tune", "doctor", "bench", "models")),
]


def _said(*arguments):
    done = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "80"}, prog_name="sao-onnx")
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("words", [*COMMANDS, ["models", "add"], ["models", "remove"], ["models", "default"]], ids=" ".join)
def test_help_fits_and_names_what_a_value_is(words):
    shown = _said(*words, "--help")
    assert shown == _said(*words, "-h")
    assert max(map(len, shown.splitlines())) <= 80
    options = [line for line in shown.splitlines() if line.lstrip().startswith("-")]
    assert options
    # Names of types, such as <int range>, are ours and no user's.
    assert not [line for line in options if "<" in line]


def test_options_stand_under_their_task():
    shown = _said("gen", "--help")
    headings = [SOUND, RECORDING, LOOPS, LEVEL, "Files", "This machine", "What is shown", "Examples"]
    places = [shown.index(f"{heading}:") for heading in headings]
    assert places == sorted(places)
    assert shown.index("--seconds") < places[1] < shown.index("--init-audio") < places[2] < shown.index("--bpm")
    assert "  sao-onnx gen rain --seconds 3 --seed 7 -o rain.flac\n" in shown
    assert "--sampler pingpong|euler|dpmpp" in shown


def test_every_option_has_a_task():
    assert {kind.option.task for kind in kinds().values() if kind.option.on_command_line} == {SOUND, RECORDING, LOOPS, LEVEL}


def test_the_version_is_short():
    assert _said("-V") == _said("--version")


def test_python_m():
    done = run([sys.executable, "-m", "sao_onnx", "--version"])
    assert (done.returncode, done.stdout) == (0, _said("--version"))


def test_misspelt():
    for words, message in (
        (["gne", "rain"], "Did you mean 'gen'?"),
        (["gen", "rain", "--stpes", "3"], "--steps"),
        (["gen", "rain", "--sampler", "eulr"], "euler"),
    ):
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 2
        assert message in done.output


@pytest.fixture
def made(miniature, tmp_path):
    def gen(*words):
        where = ["-m", str(miniature), "-o", str(tmp_path / "a{index}.wav")]
        return CliRunner().invoke(app, ["gen", *words, *where], env={"COLUMNS": "80"})

    return gen


def test_a_dry_run_makes_nothing(made, tmp_path):
    words = ("rain", "--seconds", "12", "--seed", "7", "--steps", "3", "--cfg-scale", "2", "--count", "2", "--dry-run")
    done = made(*words)
    assert done.exit_code == 0, done.output
    assert "window      " in done.output
    assert "seed 7\n" in done.output
    about = json.loads(made(*words, "--json").stdout)
    assert about["passes"] == 2 * 3 * len(about["windows"]) > 6
    assert [window["seed"] for window in about["windows"]] == list(range(7, 7 + len(about["windows"])))
    assert about["windows"][-1]["start"] + about["windows"][-1]["seconds"] == pytest.approx(12, abs=0.01)
    assert about["files"] == [str(tmp_path / f"a{index}.wav") for index in (1, 2)]
    assert about["peak_memory"] > 1e7
    assert not list(tmp_path.iterdir())


def test_a_dry_run_finds_what_is_wrong(made):
    done = made("rain", "--bars", "2", "--dry-run")
    assert done.exit_code == 2
    assert "bpm" in done.output


def test_quiet_hides_warnings(command, miniature):
    words = ["gen", "x " * 300, "-m", miniature, "--steps", "1", "--seconds", "0.1", "-o", "a.wav", "--force"]
    assert "warning: the prompt is longer" in command(*words).stderr
    assert command(*words, "--quiet").stderr == ""


def test_a_clip_is_not_poured_over_a_terminal(miniature):
    pty = pytest.importorskip("pty")
    import os

    controller, terminal = pty.openpty()
    try:
        command = [sys.executable, "-m", "sao_onnx", "gen", "rain", "-m", str(miniature), "-o", "-"]
        done = run(command, stdout=terminal)
    finally:
        os.close(terminal)
        os.close(controller)
    assert done.returncode == 2
    assert "stdout, which is a terminal" in done.stderr
