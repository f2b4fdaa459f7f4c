"""The library in an application that brings no more than it needs."""

from __future__ import annotations

import json
import re
import sys

from bench.install_sizes import LIBRARY, RESAMPLER
from tests.conftest import ROOT
from tests.processes import run, succeed

PAGE = (ROOT / "docs" / "embedding" / "install.md").read_text(encoding="utf-8")

MODULES = {"sao-onnx": "sao_onnx", "cffi": "_cffi_backend", "typing-extensions": "typing_extensions"}
"""The modules of packages that are called otherwise."""

USE = """
import asyncio, json, sys
import sao_onnx

engine = sao_onnx.load(sys.argv[1])
clip = engine.generate("rain", seconds=0.2, steps=1, seed=1)
for suffix in (".wav", ".flac", ".ogg", ".mp3"):
    clip.encoded(suffix)
engine.generate("rain", seconds=0.2, steps=1, init_audio=clip)
asyncio.run(engine.agenerate("rain", seconds=0.2, steps=1))
list(engine.generate_many(["kick", "snare"], seconds=0.2, steps=1))
loaded = sorted(sys.modules)
"""


def _loaded(code: str, *arguments: object) -> set[str]:
    return set(json.loads(succeed([sys.executable, "-c", code + "\nprint(json.dumps(loaded))", *arguments])))


def test_the_library_loads_what_it_is_said_to_and_no_command(miniature):
    loaded = _loaded(USE, miniature)
    assert not {name for name in loaded if re.match(r"sao_onnx\.(cli|serve|mcp|pyinstaller)\b", name)}
    others = {name.partition(".")[0] for name in loaded} - set(sys.stdlib_module_names)
    # What packages load of themselves, the tests' own environment loads at the start, and Cython's shared modules.
    others = {name for name in others if not re.match(r"_*cython|_?soundfile|_virtualenv|_?distutils|__|.*_finder$", name)}
    assert others <= {MODULES.get(name, name) for name in LIBRARY}


HIDE = """
import importlib.abc, sys

allowed = {*%r, *sys.stdlib_module_names}
import site  # What it loads is none of the library's.


class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        top = name.partition(".")[0]
        if top not in allowed and not top.startswith(("_soundfile", "_cython", "cython")):
            raise ModuleNotFoundError(f"No module named {top!r}", name=top)


sys.meta_path.insert(0, Hidden())
"""


def _hidden(without=()) -> str:
    return HIDE % (sorted({MODULES.get(name, name) for name in LIBRARY} - set(without)),)


def test_it_works_without_the_rest(miniature):
    assert "soxr" not in _loaded(_hidden() + USE, miniature)


def test_without_soxr_it_says_where_it_would_be_needed(miniature):
    code = (
        "from sao_onnx.errors import MissingResamplerError\n"
        "told = []\n"
        "other = sao_onnx.Request('x', init_audio=(clip.samples, 8000))\n"
        "for ask in (lambda: clip.encoded('.opus'), lambda: engine.plan(other)):\n"
        "    try:\n"
        "        ask()\n"
        "    except MissingResamplerError as error:\n"
        "        assert isinstance(error, ImportError)\n"
        "        told.append(str(error))\n"
        "loaded = told\n"
    )
    told = _loaded(_hidden() + USE + code, miniature)
    assert len(told) == 2
    for said in told:
        assert re.match(r"audio at \d+ Hz has to be resampled to \d+ Hz, which needs soxr", said)
        assert said.endswith("pip install soxr")


def test_each_of_the_list_is_needed(miniature):
    """Or it would have no place in the list."""
    for name in set(LIBRARY) - {"sao-onnx"}:
        module = MODULES.get(name, name)
        done = run([sys.executable, "-c", _hidden({module}) + USE, miniature])
        assert done.returncode == 1, name
        assert module in done.stderr


def test_the_command_without_what_it_needs():
    done = run([sys.executable, "-c", _hidden() + "from sao_onnx.cli import main; main()", "--version"])
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: the command needs typer, which the library does without; pip install typer\n"


def test_the_page_has_the_list_and_the_figures():
    [words] = re.findall(r"^pip install --no-deps (.+)$", PAGE, re.M)
    assert tuple(words.split()) == LIBRARY
    measured = (ROOT / "bench" / "results" / "install-sizes.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (.+?) \| (\d+ \| \d+) \|$", measured, re.M))
    for title, row in (("`pip install sao-onnx`", "`pip install sao-onnx`"), ("the list above", "the library alone")):
        assert f"| {title} | {rows[row]} |" in PAGE
    assert f"| with {RESAMPLER[0]} | {rows['the library and soxr']} |" in PAGE
