"""Programs that use the package, and those of the guide, as type checkers see them: right ones, and wrong line by line."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import re
import shutil
import sys
from pathlib import Path

import pytest

import sao_onnx
from tests.conftest import ROOT
from tests.documents import blocks
from tests.processes import run

CLIENTS = ROOT / "tests" / "clients"
WRONG = (CLIENTS / "wrong.txt").read_text(encoding="utf-8")
MARKED = [number for number, line in enumerate(WRONG.splitlines(), start=1) if line.endswith("# wrong")]
BLOCKS = [block.text for block in blocks(ROOT / "docs" / "python.md", "python")]


@pytest.fixture
def places(tmp_path):
    """A right client, a wrong one and the guide's, each alone in a folder, so that no settings of ours count."""
    texts = {"right": (CLIENTS / "right.py").read_text(encoding="utf-8"), "wrong": WRONG}
    texts["guide"] = "import asyncio\n" + "\n".join(BLOCKS)
    for name, text in texts.items():
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    return {name: tmp_path / f"{name}.py" for name in texts}


@pytest.fixture
def mypy(tmp_path, monkeypatch):
    pytest.importorskip("mypy")
    monkeypatch.setenv("MYPYPATH", str(ROOT / "engine"))

    def check(path, *options):
        command = [sys.executable, "-m", "mypy", "--config-file=", f"--cache-dir={tmp_path / 'cache'}", *options, path]
        done = run([*command, "--strict", "--python-version", "3.11", "--ignore-missing-imports"], cwd=tmp_path)
        assert done.returncode in (0, 1), done.stderr
        found = re.findall(r"^([^:\n]+):(\d+): error: (.*)$", done.stdout, re.M)
        return {int(line): text for file, line, text in found if file.endswith(path.name)}

    return check


def test_mypy(mypy, places):
    assert mypy(places["right"]) == {}
    assert sorted(mypy(places["wrong"])) == MARKED
    # A guide need not write types.
    assert mypy(places["guide"], "--allow-untyped-defs", "--allow-untyped-calls") == {}


@pytest.mark.parametrize("mode", ["basic", "standard", "strict"])
def test_pyright(mode, places, tmp_path):
    """It is not installed with the tests: it fetches itself from npm. `pip install basedpyright` brings all of it."""
    beside = str(Path(sys.executable).parent)
    pyright = next((found for name in ("pyright", "basedpyright") for found in [_which(name, beside)] if found), None)
    if pyright is None:
        pytest.skip("needs pyright or basedpyright")
    config = {"typeCheckingMode": mode, "extraPaths": [str(ROOT / "engine")], "pythonVersion": "3.11"}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(config))
    done = run([pyright, "--outputjson", "--pythonpath", sys.executable], cwd=tmp_path)
    assert done.returncode in (0, 1), done.stderr
    errors: dict[str, dict[int, str]] = {}
    for found in json.loads(done.stdout)["generalDiagnostics"]:
        # That a line computes something for nothing is no error of the guide, which shows what there is.
        if found["severity"] == "error" and found.get("rule") != "reportUnusedExpression":
            errors.setdefault(Path(found["file"]).stem, {})[found["range"]["start"]["line"] + 1] = found["message"]
    assert "right" not in errors, errors["right"]
    # Strict mode complains of more than what the marked lines are wrong in.
    assert set(MARKED) - set(errors["wrong"]) == set()
    assert mode == "strict" or sorted(errors["wrong"]) == MARKED
    assert mode == "strict" or "guide" not in errors


def _which(name: str, beside: str) -> str | None:
    return shutil.which(name, path=beside) or shutil.which(name)


def test_the_guide_runs(miniature, tmp_path, monkeypatch):
    """Its examples in Python in their order, with a small model under the name of the real one."""
    assert len(BLOCKS) >= 3
    shutil.copytree(miniature, tmp_path / "models" / "sao-small")
    monkeypatch.setattr("sao_onnx.bundle.names.user_folder", lambda: tmp_path / "models")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"asyncio": asyncio}
    for block in BLOCKS:
        before = set(names)
        exec(compile(block, "python.md", "exec"), names)
        for name in sorted(set(names) - before):
            _called(names[name])
    assert {"pad.wav", "rain.wav"} <= set(os.listdir(tmp_path))


def _called(function: object) -> None:
    """Run a function that an example only defines."""
    if inspect.isasyncgenfunction(function):

        async def last() -> object:
            return [event async for event in function("rain")][-1]

        assert isinstance(asyncio.run(last()), sao_onnx.events.Finished)
    elif inspect.iscoroutinefunction(function):
        asyncio.run(function())
