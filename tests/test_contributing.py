"""The worked example of `.github/CONTRIBUTING.md` is true: its changes are applied to a copy of the tree, its commands run."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import soundfile

from sao_onnx.provenance import read_provenance
from tests.conftest import ROOT
from tests.processes import run

EXAMPLE = (ROOT / ".github" / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## A worked example")[2]
EXAMPLE = EXAMPLE.partition("\n## ")[0]
BLOCKS = re.findall(r"^```(diff|sh)\n(.*?)^```$", EXAMPLE, re.S | re.M)

FILES = ("pyproject.toml", "engine", "convert", "models/miniature", "tests")
"""What the commands of the example read."""


def _hunks(diff: str):
    """Of each hunk: the file, the text that is there, and the text that takes its place."""
    path = ""
    for part in re.split(r"^(?=--- a/|@@)", diff, flags=re.M):
        if named := re.fullmatch(r"--- a/(\S+)\n\+\+\+ b/(\S+)\n", part):
            assert named[1] == named[2]
            path = named[1]
        elif part:
            lines = part.splitlines()[1:]
            assert all(line[:1] in ("", " ", "-", "+") for line in lines), part
            yield path, *("".join(f"{line[1:]}\n" for line in lines if line[:1] != mark) for mark in "+-")


def _apply(diff: str, folder: Path) -> None:
    for path, before, after in _hunks(diff):
        text = (folder / path).read_text(encoding="utf-8")
        assert text.count(before) == 1, f"{path} holds this {text.count(before)} times:\n{before}"
        (folder / path).write_text(text.replace(before, after), encoding="utf-8", newline="\n")


@pytest.fixture
def copy(tmp_path) -> Path:
    folder = Path(tmp_path / "copy")
    folder.mkdir()
    for name in FILES:
        if (ROOT / name).is_dir():
            # Without sao-tiny, which the example does not use.
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "bundles", "results"))
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture
def ran(copy, miniature):
    """Runs a command of the example in the copy."""
    paths = os.pathsep.join(str(copy / name) for name in ("engine", "convert", "."))
    environment = os.environ | {"PYTHONPATH": paths, "SAO_ONNX_MODEL": str(miniature), "PYTHONDONTWRITEBYTECODE": "1"}
    programs = {
        "python -m pytest": [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist"],
        "sao-onnx": [sys.executable, "-c", "from sao_onnx.cli import main; main()"],
    }

    def run_line(line):
        (program,) = [name for name in programs if line.startswith(f"{name} ")]
        return run([*programs[program], *shlex.split(line.removeprefix(program))], cwd=copy, env=environment)

    return run_line


TESTS, TRY, ENGINE, CLIP, TWIN, COMPARE = (text for _, text in BLOCKS)


def test_the_example(copy, ran):
    """In the order of the text: the tests, which fail; the engine, with which they pass; a clip."""
    assert [kind for kind, _ in BLOCKS] == ["diff", "sh"] * 3
    _apply(TESTS, copy)
    done = ran(TRY)
    assert done.returncode == 1, done.stdout
    assert "KeyError: 'adams'" in done.stdout
    _apply(ENGINE, copy)
    done = ran(TRY)
    assert done.returncode == 0, done.stdout
    done = ran(CLIP)
    assert done.returncode == 0, done.stderr
    assert soundfile.info(copy / "adams.wav").frames == 44100
    assert read_provenance(copy / "adams.wav").options == {"seconds": 1, "steps": 4, "sampler": "adams"}
    # The rest of it can be applied, too, and all of it is of our style.
    _apply(TWIN, copy)
    if importlib.util.find_spec("ruff"):
        changed = sorted({path for diff in (TESTS, ENGINE, TWIN) for path, *_ in _hunks(diff)})
        for check in (["check"], ["format", "--check"]):
            done = run([sys.executable, "-m", "ruff", *check, *changed], cwd=copy)
            assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_the_twin(copy, ran):
    """The part that needs PyTorch, whose import takes its time, and the types of the whole."""
    for diff in (TESTS, ENGINE, TWIN):
        _apply(diff, copy)
    done = ran(COMPARE)
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
    shutil.copytree(ROOT / "bench", copy / "bench", ignore=shutil.ignore_patterns("results"))
    shutil.copytree(ROOT / "models" / "sao_tiny", copy / "models" / "sao_tiny", ignore=shutil.ignore_patterns("states"))
    shutil.copytree(ROOT / "docs" / "hooks", copy / "docs" / "hooks")
    shutil.copy(ROOT / "hatch_build.py", copy)
    done = run([sys.executable, "-m", "mypy"], cwd=copy)
    assert done.returncode == 0, done.stdout
