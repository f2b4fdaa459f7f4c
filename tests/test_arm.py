"""The built wheel on emulated Arm cores: it does there what it does here.

One core and the miniature are enough in every run of the tests; `make test-arm` takes all four cores, both releases of
Raspberry Pi OS, and the model inside the package.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement

from bench.emulated_arm.debian import UnavailableError
from bench.emulated_arm.machine import SUITES, build
from models.sao_tiny import listen
from models.sao_tiny.kind_classifier import KindClassifier
from tests.arm import exercise
from tests.conftest import ROOT
from tests.processes import succeed

FOLDER = ROOT / "scratch" / "arm"

CORES = {
    "cortex-a72": "Cortex-A72",
    "cortex-a76": "Cortex-A76",
    "neoverse-n2": "Neoverse-N2",
    "max": "Arm core 0x51 of implementer 0x0",
}
"""QEMU's names of cores, and ours: those of a Raspberry Pi 4, of a 5, of a server, and all that QEMU knows."""

FEATURES = {
    "cortex-a72": ["asimd"],
    "cortex-a76": ["asimd", "asimddp", "fphp"],
    "neoverse-n2": ["asimd", "asimddp", "fphp", "i8mm", "bf16", "sve"],
    "max": ["asimd", "asimddp", "fphp", "i8mm", "bf16", "sve", "sme"],
}

INT8_SNR = 35.0
"""Decibels. Kernels round differently, and a value that falls on the other side of a step is a step away for all that follows.
8 bits themselves cost as much."""

SHIPPED_SNR = 10.0
"""Decibels, of the trained model in 8 bits."""

LOSSY_SNR = 40.0
"""Decibels. Encoders of another build make other choices, far below what the format loses."""


WHOLE = os.environ.get("SAO_ONNX_ARM") == "all"


def _wanted() -> list[tuple[str, str]]:
    return [(suite, core) for suite in SUITES for core in CORES if WHOLE or (suite, core) == ("bookworm", "cortex-a76")]


@pytest.fixture(scope="module")
def machines(tmp_path_factory):
    """The program to call instead of `python`, by suite. The older one has the oldest dependencies that we allow."""
    wheels = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(wheels), str(ROOT)]
    succeed(command)
    wheel = str(next(wheels.glob("*.whl")))
    constraints = {"bookworm": _oldest(), "trixie": []}
    try:
        return {
            name: build(FOLDER, SUITES[name], [wheel], constraints[name]) for name in sorted({suite for suite, _ in _wanted()})
        }
    except UnavailableError as error:
        pytest.skip(f"no emulated Arm machine: {error}")


def _oldest() -> list[str]:
    """The lower bounds of our dependencies, as constraints."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    board = {"sys_platform": "linux", "platform_machine": "aarch64"}
    needed = [need for need in map(Requirement, listed) if need.marker is None or need.marker.evaluate(board)]
    return [f"{need.name}=={next(bound.version for bound in need.specifier if bound.operator == '>=')}.*" for need in needed]


@pytest.fixture(scope="module")
def here(miniature, tmp_path_factory) -> Path:
    results = tmp_path_factory.mktemp("here")
    exercise.main(miniature, results, whole=WHOLE)
    return results


@pytest.fixture(scope="module", params=_wanted(), ids="-".join)
def there(request, machines, miniature, tmp_path_factory) -> tuple[str, Path]:
    """A core, and what was computed on it."""
    suite, core = request.param
    results = tmp_path_factory.mktemp("there")
    environment = os.environ | {"QEMU_CPU": core}
    command = [machines[suite], ROOT / "tests" / "arm" / "exercise.py", miniature, results, *["--shipped"] * WHOLE]
    succeed(command, env=environment)
    return core, results


def test_where_there_is_no_debian(monkeypatch, tmp_path):
    monkeypatch.setattr("shutil.which", lambda program: None)
    with pytest.raises(UnavailableError, match="apt-get is not here"):
        build(tmp_path, SUITES["bookworm"], [])


def test_where_debian_is_out_of_reach(monkeypatch, tmp_path):
    failed = subprocess.CompletedProcess([], 100, "", "E: Failed to fetch the index")
    monkeypatch.setattr("subprocess.run", lambda *arguments, **options: failed)
    monkeypatch.setattr("shutil.which", lambda program: program)
    monkeypatch.setattr("bench.emulated_arm.debian.KEYRING", ROOT / "README.md")
    with pytest.raises(UnavailableError, match=r"dpkg --print-architecture \.\.\. failed: E: Failed to fetch"):
        build(tmp_path, SUITES["bookworm"], [])


def _snr(a, b):
    return 10 * np.log10(np.square(a).sum() / np.square(a - b).sum())


def test_arrays(here, there):
    ours, theirs = (dict(np.load(results / "arrays.npz")) for results in (here, there[1]))
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        assert array.shape == theirs[name].shape, name
        if name.startswith("int8/"):
            assert _snr(array, theirs[name]) > INT8_SNR, name
        elif name.startswith("shipped/"):
            # A small network goes further apart; `test_the_model_inside_the_package` says what must be true.
            assert _snr(array, theirs[name]) > SHIPPED_SNR, name
        elif name in ("files/.ogg", "files/.opus", "files/.mp3"):
            assert _snr(array, theirs[name]) > LOSSY_SNR, name
        elif name.startswith("files/"):
            np.testing.assert_array_equal(theirs[name], array, name)
        else:
            np.testing.assert_allclose(theirs[name], array, atol=1e-3, err_msg=name)


@pytest.mark.skipif(not WHOLE, reason="an emulator takes minutes for it: make test-arm")
def test_the_model_inside_the_package(there):
    found = np.load(there[1] / "arrays.npz")
    assert abs(1200 * np.log2(listen.pitch(found["shipped/A4 saw wave"][:, :44_100]) / 440)) < 50
    assert KindClassifier().kind(found["shipped/kick drum"]) == "kick"


def test_commands(there):
    core, results = there
    said = json.loads((results / "said.json").read_text(encoding="utf-8"))
    doctor = json.loads(said["doctor --json --model BUNDLE"])
    assert doctor["architecture"] == "aarch64"
    assert doctor["features"] == FEATURES[core]
    assert CORES[core] in doctor["processor"]
    assert CORES[core] in said["doctor --model BUNDLE"]
    assert json.loads(said["verify BUNDLE --json"])["ok"]
    assert "miniature" in said["inspect BUNDLE"]
