"""The documentation does what it says: its commands run, its options exist, its messages are those of the code."""

from __future__ import annotations

import ast
import itertools
import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from sao_onnx.bundle.names import user_folder
from sao_onnx.cli import app
from sao_onnx.provenance import read_provenance
from sao_onnx.request import Request, initial_name, kinds, recorded_options
from tests import documents as d
from tests.conftest import ROOT
from tests.processes import COMMAND, run

DOCS = ROOT / "docs"
SOUNDS = sorted((DOCS / "sounds").glob("*.ogg"))
BASH = None if sys.platform == "win32" else shutil.which("bash")
"""A shell as the pages mean it, which on Windows is another system's."""

OTHERS = {"--platform", "--python-version", "-xs"}
"""Options of other programs that the text mentions alone, and what only looks like one."""

every_document = pytest.mark.parametrize("path", d.documents(), ids=d.name)
every_page = pytest.mark.parametrize("path", d.pages(), ids=d.name)


@every_page
def test_a_block_says_what_it_is(path):
    """So that no command is overlooked; and what is not run says why."""
    assert [block.text for block in d.blocks(path) if not block.language and d.commands(block.text)] == []
    assert [block for block in d.blocks(path) if block.reason is not None and len(block.reason) < 10] == []
    assert len(re.findall("<!-- not run", path.read_text(encoding="utf-8"))) == len([b for b in d.blocks(path) if b.reason])


@every_document
def test_scripts_can_be_read_by_a_shell(path):
    if BASH is None:
        pytest.skip("there is no bash")
    for block in d.blocks(path, "sh"):
        done = subprocess.run([BASH, "-n"], input=block.text, text=True, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr


@every_document
def test_options_of_commands_exist(path):
    """In blocks, and in the text wherever a command of ours is named."""
    scripts = [block.text for block in d.blocks(path) if block.language in ("sh", "")]
    written = [words for script in scripts for words in d.commands(script)]
    written += [words for span in d.spans(path) if span.startswith("sao-onnx ") for words in d.commands(span)]
    for words in written:
        if words[0].isupper():  # A stand-in for any command.
            continue
        command, rest = d.resolve(words)
        assert d.written_options(rest) <= d.option_names(command), words


def _every_option():
    waiting, found = [d.command_line()], set()
    while waiting:
        command = waiting.pop()
        waiting += getattr(command, "commands", {}).values()
        found |= d.option_names(command)
    return found


EVERY_OPTION = _every_option()


@every_page
def test_options_that_are_named_alone_exist(path):
    named = [span for span in d.spans(path) if re.match(r"--?[a-z]", span)]
    assert {name for span in named for name in d.written_options(span.split())} - OTHERS <= EVERY_OPTION


def test_a_wrong_option_would_be_found():
    command, rest = d.resolve(["gen", "rain", "--secnods=3", "-o", "-"])
    assert d.written_options(rest) - d.option_names(command) == {"--secnods"}
    assert d.commands("echo a | sao-onnx gen - --seed 1 > b.wav && sao-onnx models add x # y") == [
        ["gen", "-", "--seed", "1"],
        ["models", "add", "x"],
    ]
    assert d.commands("A=1 sao-onnx gen a\ndocker run --rm sao-onnx gen b\npip download sao-onnx numpy") == [
        ["gen", "a"],
        ["gen", "b"],
    ]
    assert d.plain('sao-onnx gen "a | b" --seed 1  # c') == ["gen", "a | b", "--seed", "1"]
    assert d.plain("sao-onnx gen - < prompt.txt") is d.plain("sao-onnx gen $PROMPT") is d.plain("pip install .") is None


@every_page
def test_commands_that_are_not_run_are_understood(path):
    for block in d.blocks(path, "sh"):
        if block.reason is not None:
            for words in d.commands(block.text):
                command, rest = d.resolve(words)
                command.make_context(words[0], rest)


@pytest.fixture
def home(miniature, tmp_path, monkeypatch):
    """A user's folder with the bundles that the pages speak of: the miniature, under their names."""
    # What whoever runs the tests has set does not count.
    for variable in [name for name in os.environ if name.startswith("SAO_ONNX_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for kind in ("data", "state", "config"):
        monkeypatch.setenv(f"XDG_{kind.upper()}_HOME", str(tmp_path / "home" / kind))
    monkeypatch.setenv("SAO_ONNX_MODEL", str(miniature))
    monkeypatch.setenv("PATH", str(COMMAND.parent), prepend=os.pathsep)
    shutil.copytree(miniature, user_folder() / "sao-small")
    shutil.copytree(miniature, tmp_path / "home" / "bundles" / "grunge")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@pytest.mark.parametrize(
    "path", [path for path in d.pages() if any(b.reason is None for b in d.blocks(path, "sh"))], ids=d.name
)
@pytest.mark.usefixtures("home")
def test_commands_run(path):
    """Those of a page in their order, in one folder.

    There are some sixty, which together take longer than most tests, although those that need no shell are run in this process.
    """
    if BASH is None:
        pytest.skip("there is no bash")
    if "--plot" in path.read_text(encoding="utf-8"):
        pytest.importorskip("matplotlib")
    for block in d.blocks(path, "sh"):
        if block.reason is None:
            _carry_out(block.text)


def _carry_out(script):
    plain = [d.plain(line) for line in d.lines(script)]
    if None in plain:
        done = run([BASH, "-euc", script])
        assert done.returncode == 0, f"{script}\n{done.stderr}"
        return
    for words in plain:
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, f"{words}\n{result.output}"


def _templates():
    """Every text of the program, with … for what is filled in."""
    found = []
    for folder in ("engine/sao_onnx", "convert/sao_onnx_convert"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    found.append("".join(str(v.value) if isinstance(v, ast.Constant) else "…" for v in node.values))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append(node.value)
    return [text.replace("`", "") for text in found]


def _held_by(message, template):
    """Whether the pieces of a message between … stand in a text, in their order."""
    place = 0
    for piece in message.split("…"):
        place = template.find(piece, place)
        if place < 0:
            return False
        place += len(piece)
    return True


MESSAGES = re.findall(r"^### `(.+)`$", (DOCS / "troubleshooting.md").read_text(encoding="utf-8"), re.M)

OF_OTHER_PROGRAMS = {"error: externally-managed-environment", "No matching distribution found for onnxruntime"}


def test_messages_are_those_of_the_program():
    assert len(MESSAGES) > 40
    assert set(MESSAGES) > OF_OTHER_PROGRAMS
    templates = _templates()
    ours = [message for message in MESSAGES if message not in OF_OTHER_PROGRAMS]
    assert [message for message in ours if max(map(len, message.split("…"))) < 8] == [], "nothing of it can be looked for"
    assert [message for message in ours if not any(_held_by(message, template) for template in templates)] == []
    assert not any(_held_by("… exists; choose another file", template) for template in templates)


def test_every_option_has_its_place():
    """In the pages by task, under one of its names."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in (DOCS / "options").glob("*.md"))
    for name, kind in kinds().items():
        if kind.option.on_command_line:
            names = (name, *kind.option.aliases)
            assert any(f"--{spelled.replace('_', '-')}" in text for spelled in names), name


@every_page
def test_headings_are_in_order_and_pictures_are_told(path):
    levels = [len(marks) for marks in re.findall(r"^(#+) ", d.prose(path), re.M)]
    assert levels[:1] == [1]
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert [target for words, target in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", d.prose(path)) if len(words) < 10] == []


def test_sounds_are_few_and_all_are_heard():
    assert SOUNDS
    assert sum(path.stat().st_size for path in SOUNDS) < 1_000_000
    text = "\n".join(path.read_text(encoding="utf-8") for path in d.pages())
    assert [path.name for path in SOUNDS if f"sounds/{path.name})" not in text] == []


def _made_by():
    """For each file that a command of the pages writes: its words."""
    found: dict[str, list[list[str]]] = {}
    for path in d.pages():
        for block in d.blocks(path, "sh"):
            for words in d.commands(block.text):
                if words[0] == "gen" and "-o" in words:
                    found.setdefault(words[words.index("-o") + 1], []).append(words[1:])
    return found


def _options(given):
    """The options of a request among what a command line gives."""
    found = {}
    for name, kind in kinds().items():
        if given.get(name):
            found[name] = kind.read(given[name] if kind.name != "audio" else str(given[name]))
        for spelling in kind.option.spellings:
            if given.get(spelling.name):
                found |= spelling.read(given[spelling.name])
    return found


@pytest.mark.parametrize("path", SOUNDS, ids=lambda path: path.name)
def test_a_sound_is_what_its_command_makes(path):
    """How it was made is in its tags."""
    record, made = read_provenance(path), _made_by()
    numbered = re.sub(r"-\d+\.", "-{index}.", path.name)
    assert record.model == "sao-tiny"
    index = 1 if path.name in made else int(re.findall(r"-(\d+)\.", path.name)[0])
    for words in made.get(path.name) or made[numbered]:
        given = d.command_line().commands["gen"].make_context("gen", list(words)).params
        request = Request.from_options(given["prompt"], _options(given))
        tempo = f", {request.bpm:g} BPM" if request.bpm and request.bars else ""  # Which a prompt that names none gets.
        assert (record.prompt, record.seed) == (request.prompt + tempo, (request.seed or 0) + index - 1)
        assert record.options == json.loads(json.dumps(recorded_options(request)))
        assert record.init_audio == initial_name(request)
