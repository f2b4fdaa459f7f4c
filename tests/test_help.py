"""What a veteran of command lines expects: help by task, short names, a plan before the work, and quiet that is quiet."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sys

import pytest
import typer
from typer.testing import CliRunner

from sao_onnx.cli import app
from sao_onnx.cli.declared import COMMANDS as DECLARED
from sao_onnx.cli.declared import declared
from sao_onnx.option import LEVEL, LOOPS, RECORDING, SOUND
from sao_onnx.request import kinds
from tests.conftest import ROOT
from tests.processes import run, started


def _commands(group, words=()):
    """Every command of the app and of its groups, by the words that it is typed as."""
    yield list(words)
    for name, command in getattr(group, "commands", {}).items():
        yield from _commands(command, (*words, name))


COMMANDS = list(_commands(typer.main.get_command(app)))
LEAKED = re.compile(r"<[\w ]+>|\bx[<>]=|<=x|\b(?:str|int|float|bool|None|True|False|Path|UUID|TEXT_TYPE)\b|_conditioner")
"""What is ours and no user's: names of types and values of Python, of fields and of roles."""


def _said(*arguments):
    done = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "80"}, prog_name="sao-onnx")
    assert done.exit_code == 0, done.output
    return done.output


def test_all_commands_are_looked_at():
    assert {"gen", "batch", "serve", "convert", "inspect", "verify", "tune", "doctor", "models", "config"} <= {
        words[0] for words in COMMANDS if words
    }
    assert ["models", "add"] in COMMANDS


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_fits_and_names_what_a_value_is(words):
    shown = _said(*words, "--help")
    assert shown == _said(*words, "-h")
    assert max(map(len, shown.splitlines())) <= 80
    options = [line for line in shown.splitlines() if line.lstrip().startswith("-")]
    assert options
    assert not LEAKED.search(shown), LEAKED.search(shown)


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
        ([""], 'A prompt comes behind gen, and has words: sao-onnx gen "short kick drum"'),
        ([" \t"], 'A prompt comes behind gen, and has words: sao-onnx gen "short kick drum"'),
        (["", "--seed", "3"], 'A prompt comes behind gen, and has words: sao-onnx gen "short kick drum"'),
        (["", "rain"], "A prompt comes behind gen: sao-onnx gen rain"),
        (["-"], "A prompt comes behind gen: sao-onnx gen -"),
        (["models", ""], "Known: add, remove, default"),
        (["models", "zzz"], "Known: add, remove, default"),
        (["gen", "rain", "--stpes", "3"], "--steps"),
        (["gen", "rain", "--sampler", "eulr"], "did you mean 'euler'?"),
        (["gen", "rain", "--normalize", "luffs"], "did you mean 'lufs'?"),
        (["gen", "rain", "--model", "sao-tyni"], "did you mean 'sao-tiny'?"),
        (["models", "default", "sao-tyni"], "did you mean 'sao-tiny'?"),
        (["models", "remov", "x"], "Did you mean 'remove'?"),
    ):
        done = CliRunner().invoke(app, words)
        assert done.exit_code in (2, 3)
        assert message in done.output


def _refused(*words):
    done = CliRunner().invoke(app, list(words), env={"COLUMNS": "200"}, prog_name="sao-onnx")
    assert done.exit_code == 2, done.output
    return done.output.rpartition("rror: ")[2].strip()


NUMBERS = [
    (name, option)
    for name, function in DECLARED.items()
    for option in declared(function)
    if option.type in ("number", "whole number") and option.flags
]


@pytest.mark.parametrize(("name", "option"), NUMBERS, ids=lambda value: getattr(value, "name", value))
def test_numbers_speak_with_one_voice(name, option):
    """Whatever release of typer reads the command line."""
    needed = ["x"] * sum(argument.required and not argument.flags for argument in declared(DECLARED[name]))
    kind = {"number": "a number", "whole number": "a whole number"}[option.type]
    for flag in option.flags:
        assert _refused(name, *needed, flag, "abc") == f"{flag} is 'abc'; expected {kind}"
        assert _refused(name, *needed, flag, "") == f"{flag} is empty; give it a value, or leave it out"
    assert "x" not in needed or "abc" in _refused(name, *needed, f"{option.flags[0]}=abc")
    if option.kind is None and option.range:
        assert _refused(name, *needed, option.flags[0], "-1") == f"{option.flags[0]} is -1, expected {option.range}"


@pytest.mark.parametrize("flag", ["--init-audio", "-o", "--plot", "--from", "-m", "--sampler", "--keep", "--seconds"])
def test_an_empty_value_is_named(flag):
    """As of a variable that a script did not set."""
    assert _refused("gen", "rain", flag, "") == f"{flag} is empty; give it a value, or leave it out"
    assert _refused("batch", "", "-o", "x") == "FILE is empty; give it a value, or leave it out"


def test_a_text_for_the_model_may_be_empty():
    assert CliRunner().invoke(app, ["gen", "rain", "--negative-prompt", "", "--dry-run"]).exit_code == 0


def test_a_prompt_without_its_command():
    for words, hint in (
        (["120 BPM loop"], 'sao-onnx gen "120 BPM loop"'),
        (["120", "BPM", "loop", "--seconds", "3"], 'sao-onnx gen "120 BPM loop"'),
        (["rain"], "sao-onnx gen rain"),
        (['a "dry" kick'], "sao-onnx gen 'a \"dry\" kick'"),
        (["--seconds", "3", "rain"], "No such option: --seconds; options come behind the command: sao-onnx gen"),
    ):
        assert _refused(*words).endswith(hint)
    for words in (["gne", "rain"], ["models", "nope"], ["--nonsense"]):
        assert "sao-onnx gen" not in _refused(*words)


def test_a_word_too_many():
    assert _refused("gen", "short", "kick").endswith('in quotes: sao-onnx gen "short kick drum"')
    assert (
        _refused("batch", "x.txt", "--ray", "nonsense") == "'nonsense' is no value of --ray, expected HOST:PORT, auto or local"
    )
    assert "--ray" not in _refused("batch", "x.txt", "y.txt")


def test_summaries_are_whole():
    shown = " ".join(_said("--help").partition("Commands:")[2].split())
    assert "..." not in shown
    assert "run again, it makes those that are not there yet. serve" in shown


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_no_line_ends_at_a_hyphen(words):
    """A command or an option that is torn apart cannot be copied."""
    assert not [line for line in _said(*words, "--help").splitlines() if line.endswith("-")]
    assert "\ue000" not in _said(*words, "--help")


def test_wrong_values_are_told_in_words(miniature):
    for words in (
        ["--count", "0"],
        ["--count", "many"],
        ["--threads", "0"],
        ["--number", "x=abc"],
        ["--number", "x"],
        ["--number", "x=3"],
        ["--number", "seconds_total=999"],
        ["--keep", "3"],
        ["--fade", "x"],
        ["--steps", "x"],
        ["--bits", "17"],
        ["--precision", "int4"],
        ["--bpm", "x"],
    ):
        done = CliRunner().invoke(app, ["gen", "rain", "-m", str(miniature), *words])
        assert done.exit_code == 2, words
        assert not LEAKED.search(done.output.replace(str(ROOT), "")), done.output
        assert "[" not in done.output.rpartition("rror: ")[2], done.output
    done = CliRunner().invoke(app, ["gen", "rain", "--number", "x=abc"])
    assert "numbers is 'x=abc'; expected a number behind x=" in done.output


def test_a_default_model_that_is_gone(miniature, monkeypatch, tmp_path):
    monkeypatch.setattr("platformdirs.user_data_path", lambda name: tmp_path / name)
    for name, folder in (("mine", tmp_path / "mine"), ("own", tmp_path / "sao-onnx" / "models" / "own")):
        shutil.copytree(miniature, folder)
        if name == "mine":
            CliRunner().invoke(app, ["models", "add", str(folder)])
        assert CliRunner().invoke(app, ["models", "default", name]).exit_code == 0
        assert "miniature" in CliRunner().invoke(app, ["inspect"]).output
        shutil.rmtree(folder)
        done = CliRunner().invoke(app, ["gen", "rain"])
        assert done.exit_code == 3
        assert f"the model {name} is gone" in done.output
        assert "sao-onnx models default sao-tiny" in done.output
    assert "* own is gone" in CliRunner().invoke(app, ["models"]).stdout
    assert CliRunner().invoke(app, ["models", "default", "sao-tiny"]).exit_code == 0
    assert CliRunner().invoke(app, ["inspect"]).exit_code == 0


@pytest.mark.parametrize(
    ("variables", "drawn", "coloured"),
    [({}, True, True), ({"NO_COLOR": "1"}, True, False), ({"TERM": "dumb"}, False, False), ({"TERM": "unknown"}, False, False)],
    ids=["a terminal", "NO_COLOR", "dumb", "unknown"],
)
def test_terminals_are_obeyed(miniature, tmp_path, variables, drawn, coloured):
    """Colours only where they are wanted, and lines that are drawn anew only where they can be."""
    pty = pytest.importorskip("pty")
    controller, terminal = pty.openpty()
    inherited = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")}
    said = b""
    try:
        words = ["gen", "rain", "-m", miniature, "--steps", "3", "--seconds", "0.2", "-o", tmp_path / "a.wav"]
        environment = inherited | {"TERM": "xterm-256color"} | variables
        with started([sys.executable, "-m", "sao_onnx", *words], stderr=terminal, stdout=terminal, env=environment) as process:
            os.close(terminal)
            with contextlib.suppress(OSError):  # The end of it, on Linux.
                while data := os.read(controller, 65536):
                    said += data
            assert process.wait() == 0
    finally:
        os.close(controller)
    assert (b"\x1b[" in said) is drawn
    assert bool(re.search(rb"\x1b\[[\d;]*(?:3[0-8]|4[0-8]|9\d)[;m]", said)) is coloured
    assert b"a.wav" in said


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
