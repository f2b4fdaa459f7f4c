"""The built wheel in a fresh environment: it runs without torch, transformers, onnx or optimum.

What the wheel needs is not downloaded but linked from the environment of the tests, so that they need no network.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
import venv
import zipfile
from pathlib import Path

import pytest
import soundfile
from packaging.requirements import Requirement

from bench.install_sizes import LIBRARY
from tests.conftest import ROOT
from tests.processes import run, succeed

NEVER_LOADED = ("hf-xet", "huggingface-hub")
"""What the documentation says can be taken away."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    succeed([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT])
    return next(folder.glob("*.whl"))


def _needed(requirements) -> set[str]:
    """Names of all that some requirements lead to, by what is installed here."""
    found: dict[str, set[str]] = {}
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        requirement = waiting.pop()
        extras = {"", *requirement.extras}
        name = requirement.name.lower().replace("_", "-")
        if requirement.marker is not None and not any(requirement.marker.evaluate({"extra": extra}) for extra in extras):
            continue
        if extras <= found.get(name, set()):
            continue
        found[name] = found.get(name, set()) | extras
        for text in importlib.metadata.requires(name) or ():
            inner = Requirement(text)
            if inner.marker is None or any(inner.marker.evaluate({"extra": extra}) for extra in extras):
                inner.marker = None
                waiting.append(inner)
    return set(found)


def _environment(folder: Path, wheel: Path, without=(), alone=None) -> Path:
    """Make an environment with nothing but the wheel and what it needs, or other packages alone; the folder of its programs."""
    venv.create(folder, with_pip=False)
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    site = Path(succeed([programs / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).strip())
    with zipfile.ZipFile(wheel) as archive:
        [metadata] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        text = archive.read(metadata).decode()
    required = [line.partition(": ")[2] for line in text.splitlines() if line.startswith("Requires-Dist: ")]
    for name in _needed(required) - set(without) if alone is None else alone:
        distribution = importlib.metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            target = Path(str(distribution.locate_file(top)))
            if target.exists() and not (site / top).exists():
                (site / top).symlink_to(target, target_is_directory=target.is_dir())
    pip = [sys.executable, "-m", "pip", "--python", programs / "python", "--disable-pip-version-check"]
    succeed([*pip, "install", "--quiet", "--no-index", "--no-deps", wheel])
    if not without and alone is None:
        succeed([*pip, "check"])
    return programs


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory) -> Path:
    """The folder of the programs of a fresh environment."""
    return _environment(tmp_path_factory.mktemp("environment"), wheel)


@pytest.fixture(scope="module", autouse=True)
def _nothing_of_the_checkout():
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTHONPATH", raising=False)
        patch.delenv("SAO_ONNX_MODEL", raising=False)
        yield


def test_contents(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"sao_onnx", "sao_onnx_convert"}
    assert "sao_onnx/py.typed" in names
    assert "sao_onnx_convert/py.typed" in names
    assert "sao_onnx/pyinstaller/hook-sao_onnx.py" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    weights = [name for name in names if name.endswith((".onnx", ".data", ".safetensors"))]
    assert weights
    assert all(name.startswith("sao_onnx/bundles/sao-tiny/") for name in weights)
    assert "sao_onnx/bundles/sao-tiny/LICENSE" in names
    shared = {name.partition(".data/data/share/")[2] for name in names if ".data/data/share/" in name}
    share = ROOT / "engine" / "share"
    assert shared == {path.relative_to(share).as_posix() for path in share.rglob("*") if path.is_file()}
    assert wheel.stat().st_size < 25_000_000


def test_the_environment_is_the_wheels_own(environment):
    script = (
        "import importlib.util as u, sao_onnx\n"
        "print(sao_onnx.__file__)\n"
        "print(*[name for name in ('torch', 'transformers', 'onnx', 'optimum', 'pytest') if u.find_spec(name)])"
    )
    place, others = succeed([environment / "python", "-c", script]).split("\n")[:2]
    assert Path(place).is_relative_to(environment.parent)
    assert others == ""


def test_first_sound(environment, tmp_path):
    succeed([environment / "sao-onnx", "gen", "kick drum", "-o", "kick.wav"], cwd=tmp_path)
    assert soundfile.info(tmp_path / "kick.wav").frames > 44100
    succeed([environment / "sao-onnx", "verify"])


def test_generates(environment, miniature, tmp_path):
    command = [environment / "sao-onnx", "gen", "rain", "--model", miniature, "-o", "rain.wav", "--seconds", "1", "--seed", "1"]
    succeed(command, cwd=tmp_path)
    assert soundfile.info(tmp_path / "rain.wav").frames == 44100


def test_the_library_alone(environment, miniature, tmp_path):
    script = (
        "import sys, sao_onnx\n"
        "clip = sao_onnx.load(sys.argv[1]).generate('kick', seconds=0.5, seed=1)\n"
        "clip.save('kick.flac')\n"
        "again = sao_onnx.load(sys.argv[1]).generate('rain', seconds=0.5, init_audio='kick.flac')\n"
        "resampled = sao_onnx.load(sys.argv[1]).generate('rain', seconds=0.5, init_audio=(clip.samples, 48000))\n"
    )
    succeed([environment / "python", "-W", "error", "-c", script, miniature], cwd=tmp_path)


def test_convert_names_the_extra(environment, tmp_path):
    done = run([environment / "sao-onnx", "convert", "x", "--t5", "y", "-o", "z"], cwd=tmp_path)
    assert done.returncode == 1
    assert "pip install 'sao-onnx[convert]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_other_commands(environment, miniature):
    assert (environment.parent / "share" / "man" / "man1" / "sao-onnx-gen.1").is_file()
    for arguments in (["verify", miniature], ["inspect", miniature], ["doctor", "--model", miniature], ["--version"]):
        succeed([environment / "sao-onnx", *arguments])


def test_the_library_with_the_packages_that_it_needs_alone(wheel, miniature, tmp_path):
    programs = _environment(tmp_path / "environment", wheel, alone=[name for name in LIBRARY if name != "sao-onnx"])
    script = "import sys, sao_onnx; sao_onnx.load(sys.argv[1]).generate('rain', seconds=0.5).save('a.wav')"
    succeed([programs / "python", "-W", "error", "-c", script, miniature], cwd=tmp_path)
    assert soundfile.info(tmp_path / "a.wav").frames == 22050
    done = run([programs / "sao-onnx", "--version"])
    assert done.returncode == 1
    assert "the command needs typer" in done.stderr


def test_what_is_never_loaded_can_go(wheel, miniature, tmp_path):
    programs = _environment(tmp_path / "environment", wheel, without=NEVER_LOADED)
    assert succeed([programs / "python", "-c", "import importlib.util as u; print(u.find_spec('huggingface_hub'))"]) == "None\n"
    succeed([programs / "sao-onnx", "gen", "rain", "--model", miniature, "-o", "a.wav", "--seconds", "0.5"], cwd=tmp_path)
    assert soundfile.info(tmp_path / "a.wav").frames == 22050
