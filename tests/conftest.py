"""Bundles and golden data that several tests share."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sao_onnx
from sao_onnx.errors import SaoOnnxError
from tests import processes

ROOT = Path(__file__).parent.parent
MINIATURE = ROOT / "models" / "miniature"
GOLDEN = ROOT / "tests" / "golden"
"""What the reference computed with the miniature's weights; see the notes beside it."""
LARGER = ROOT.parent / "shared" / "reference" / "golden"
"""The same for a larger model, with its checkpoint: checked as well where it lies beside this checkout."""


EXTRAS = {
    "convert": {"huggingface_hub", "onnx", "onnxscript", "onnxsim", "optimum", "safetensors", "torch", "transformers"},
    "dev": {"build", "hatchling", "matplotlib", "mypy", "packaging", "psutil"},
}
"""What the engine does without, by the extra that brings it. Tests that need it are skipped where it is not installed."""


def _skip_without_extra(error):
    """Skip what failed because an extra is not installed; any other error stays one."""
    while error is not None:
        for extra, names in EXTRAS.items():
            # Only where the library itself is not there; a part of it that is missing is an error.
            if isinstance(error, ModuleNotFoundError) and error.name in names:
                pytest.skip(f"needs {error.name}: pip install '.[{extra}]'", allow_module_level=True)
        error = error.__cause__


class _Module(pytest.Module):
    def collect(self):
        try:
            return super().collect()
        except self.CollectError as error:
            _skip_without_extra(error)
            raise


def pytest_pycollect_makemodule(module_path, parent):
    return _Module.from_parent(parent, path=module_path)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef, request):
    try:
        return (yield)
    except (ImportError, SaoOnnxError) as error:
        _skip_without_extra(error)
        raise


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem):
    try:
        return (yield)
    except (ImportError, SaoOnnxError) as error:
        _skip_without_extra(error)
        raise


def pytest_configure(config):
    # A run that is terminated ends like one that is interrupted, and so ends the programs that it has started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _untuned(tmp_path_factory):
    """What this machine was tuned to, and the models and settings of its user, must not decide what tests see."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data")))
        patch.setenv("SAO_ONNX_CONFIG", os.devnull)
        yield


@pytest.fixture(scope="session")
def miniature() -> Path:
    """The committed bundle of random weights."""
    return MINIATURE / "bundle"


@pytest.fixture
def bundle(miniature, tmp_path) -> Path:
    """A copy of it, to be damaged."""
    import shutil

    return Path(shutil.copytree(miniature, tmp_path / "bundle"))


@pytest.fixture
def command(tmp_path):
    """Runs `sao-onnx` in `tmp_path` to its end, with arguments, text for stdin, and variables of its environment.

    What comes back is that of `processes.run`. The model and the terminal of whoever runs the tests do not count.
    """
    inherited = {name: value for name, value in os.environ.items() if name != "SAO_ONNX_MODEL"}

    def run(*arguments, input=None, text=True, **environment):
        variables = inherited | {"COLUMNS": "120"} | environment
        return processes.run([processes.COMMAND, *arguments], cwd=tmp_path, input=input, text=text, env=variables)

    return run


@pytest.fixture
def processors(monkeypatch) -> Callable[[int], None]:
    """A function that makes this machine one of so many processors."""

    def pretend(count: int) -> None:
        monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(count)), raising=False)
        monkeypatch.setattr("sao_onnx.runtime.control_groups.folders", lambda controller: ())

    return pretend


@pytest.fixture(scope="session")
def engine(miniature) -> sao_onnx.Engine:
    return sao_onnx.load(miniature, precision="fp32", threads=2)


@pytest.fixture
def model_config() -> dict[str, Any]:
    return json.loads((MINIATURE / "model_config.json").read_text())


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    """The miniature's checkpoint, its T5 in the folder `t5`."""
    from sao_onnx_convert.family.stable_audio_open.synthetic import write_checkpoint, write_t5

    folder = tmp_path_factory.mktemp("checkpoint")
    t5_config = json.loads((MINIATURE / "t5_config.json").read_text())
    write_checkpoint(folder, json.loads((MINIATURE / "model_config.json").read_text()), t5_config["d_model"])
    write_t5(folder / "t5", t5_config)
    return folder


@pytest.fixture(scope="session", params=[GOLDEN, LARGER], ids=["miniature", "larger"])
def golden_folder(request) -> Path:
    folder: Path = request.param
    if not folder.is_dir():
        pytest.skip("the larger golden data is not beside this checkout")
    return folder


@pytest.fixture(scope="session")
def golden(golden_folder) -> dict[str, np.ndarray]:
    """What the reference computed."""
    with np.load(golden_folder / "golden.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="session")
def golden_bundle(golden_folder, miniature, tmp_path_factory) -> Path:
    """The bundle of the model that it was computed with."""
    if golden_folder == GOLDEN:
        return miniature
    from sao_onnx_convert import convert

    return convert(golden_folder, golden_folder / "t5-base", tmp_path_factory.mktemp("golden") / "bundle").folder
