"""The built wheel in a fresh environment: it runs without torch, transformers, onnx or optimum."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
import soundfile

from tests.conftest import ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory) -> Path:
    """The folder of the programs of a fresh environment with nothing but the wheel and what it needs."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    subprocess.run([programs / "python", "-m", "pip", "install", "-q", wheel], check=True, capture_output=True)
    return programs


def test_contents(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"sao_onnx", "sao_onnx_convert"}
    assert "sao_onnx/py.typed" in names
    assert "sao_onnx_convert/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    weights = [name for name in names if name.endswith((".onnx", ".data", ".safetensors"))]
    assert weights
    assert all(name.startswith("sao_onnx/bundles/sao-tiny/") for name in weights)
    assert "sao_onnx/bundles/sao-tiny/LICENSE" in names
    assert wheel.stat().st_size < 25_000_000


def test_first_sound(environment, tmp_path):
    variables = {name: value for name, value in os.environ.items() if name != "SAO_ONNX_MODEL"}
    subprocess.run([environment / "sao-onnx", "gen", "kick drum", "-o", "kick.wav"], cwd=tmp_path, env=variables, check=True)
    assert soundfile.info(tmp_path / "kick.wav").frames > 44100
    subprocess.run([environment / "sao-onnx", "verify"], env=variables, check=True, capture_output=True)


def test_generates_without_torch(environment, miniature, tmp_path):
    absent = "import importlib.util as u, sys; sys.exit(any(map(u.find_spec, ('torch', 'transformers', 'onnx', 'optimum'))))"
    subprocess.run([environment / "python", "-c", absent], check=True)
    command = [environment / "sao-onnx", "gen", "rain", "--model", miniature, "-o", "rain.wav", "--seconds", "1", "--seed", "1"]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert soundfile.info(tmp_path / "rain.wav").frames == 44100


def test_the_library_alone(environment, miniature, tmp_path):
    script = (
        "import sys, sao_onnx\n"
        "clip = sao_onnx.load(sys.argv[1]).generate('kick', seconds=0.5, seed=1)\n"
        "clip.save('kick.flac')\n"
        "again = sao_onnx.load(sys.argv[1]).generate('rain', seconds=0.5, init_audio='kick.flac')\n"
        "resampled = sao_onnx.load(sys.argv[1]).generate('rain', seconds=0.5, init_audio=(clip.samples, 48000))\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([environment / "python", "-W", "error", "-c", script, miniature], cwd=tmp_path, check=True)


def test_convert_names_the_extra(environment, tmp_path):
    command = [environment / "sao-onnx", "convert", "x", "--t5", "y", "-o", "z"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'sao-onnx[convert]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_other_commands(environment, miniature):
    for arguments in (["verify", miniature], ["inspect", miniature], ["doctor", "--model", miniature], ["--version"]):
        subprocess.run([environment / "sao-onnx", *arguments], check=True, capture_output=True)


def test_what_is_never_loaded_can_go(environment, miniature, tmp_path):
    """The last test: it takes away from the environment what the README says can be taken away."""
    gone = ["hf-xet", "huggingface-hub"]
    subprocess.run([environment / "python", "-m", "pip", "uninstall", "-q", "-y", *gone], check=True, capture_output=True)
    command = [environment / "sao-onnx", "gen", "rain", "--model", miniature, "-o", "rain.wav", "--seconds", "0.5", "-q"]
    subprocess.run(command, cwd=tmp_path, check=True)
