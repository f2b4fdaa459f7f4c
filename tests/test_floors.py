"""The oldest and the newest releases of what the engine needs, each set at once in an environment of its own.

Needs a package index, so it is run by hand: `make test-floors`.
"""

from __future__ import annotations

import os
import sys
import tomllib
import venv
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.processes import run, succeed

packaging = pytest.importorskip("packaging.requirements")

pytestmark = pytest.mark.slow

OLDEST_PYTHON = (3, 11)


def floors() -> list[str]:
    """Every requirement of the engine at its lowest release: NAME==RELEASE."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = []
    for text in project["dependencies"]:
        requirement = packaging.Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue  # For other systems.
        (floor,) = [part.version for part in requirement.specifier if part.operator == ">="]
        assert requirement.specifier.contains(floor), text
        found.append(f"{requirement.name}=={floor}")
    return found


@pytest.fixture(scope="module", params=["oldest", "newest"])
def programs(request, tmp_path_factory):
    if request.param == "oldest" and sys.version_info[:2] != OLDEST_PYTHON:
        pytest.skip(f"the oldest releases have wheels for Python {'.'.join(map(str, OLDEST_PYTHON))} only")
    folder = tmp_path_factory.mktemp(request.param)
    venv.create(folder, with_pip=True)
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    chosen = floors() if request.param == "oldest" else []
    pip = [programs / "python", "-m", "pip", "--disable-pip-version-check", "--quiet"]
    succeed([*pip, "install", "--upgrade", "--upgrade-strategy", "eager", ROOT, *chosen])
    succeed([*pip, "check"])
    return programs


@pytest.fixture(autouse=True)
def _nothing_of_the_checkout(monkeypatch):
    for name in ("PYTHONPATH", "SAO_ONNX_MODEL"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("command", ["", "gen", "batch", "convert", "inspect", "verify", "doctor", "tune", "models"])
def test_help(programs, command):
    done = run([programs / "sao-onnx", *command.split(), "--help"])
    assert (done.returncode, done.stderr) == (0, "")
    assert "--help" in done.stdout


def test_wrong_usage(programs):
    done = run([programs / "sao-onnx", "gen", "kick", "--secons", "1"])
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_clips_of_every_format_from_every_start(programs, tmp_path):
    gen = [programs / "sao-onnx", "gen", "kick drum", "--seed", "1"]
    for name in ("a.wav", "a.flac", "a.ogg", "a.opus", "a.mp3"):
        succeed([*gen, "-o", name], cwd=tmp_path)
    for name in ("a.wav", "a.opus"):  # The second has another sample rate.
        succeed([*gen, "--init-audio", name, "-o", f"from-{Path(name).suffix[1:]}.wav"], cwd=tmp_path)
    succeed([*gen, "--from", "a.flac", "-o", "again.wav", "--normalize", "lufs", "--mono"], cwd=tmp_path)
    for command in (["doctor"], ["verify"], ["models"], ["inspect", "sao-tiny"]):
        succeed([programs / "sao-onnx", *command], cwd=tmp_path)


def test_the_library(programs, tmp_path):
    script = (
        "import asyncio, pickle, sao_onnx\n"
        "engine = pickle.loads(pickle.dumps(sao_onnx.load()))\n"
        "clip = asyncio.run(engine.agenerate('kick drum', seed=1, seconds=1))\n"
        "assert (clip.samples == engine.generate('kick drum', seed=1, seconds=1).samples).all()\n"
    )
    succeed([programs / "python", "-W", "error", "-c", script], cwd=tmp_path)
