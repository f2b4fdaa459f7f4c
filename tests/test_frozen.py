"""Applications without Python: PyInstaller finds the hook of the wheel, and what it freezes makes the clip of the unfrozen one.

Freezing takes minutes and needs a package index: `make test-slow`, or pytest -m slow tests/test_frozen.py.
"""

from __future__ import annotations

import importlib
import importlib.util
import runpy
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest

import sao_onnx
from bench import frozen
from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PACKAGE = Path(sao_onnx.__file__).parent


@pytest.fixture
def hook():
    """The names of the hook, which is found as PyInstaller finds it."""
    pytest.importorskip("PyInstaller", reason="PyInstaller is not installed")
    module, _, function = PROJECT["entry-points"]["pyinstaller40"]["hook-dirs"].partition(":")
    [folder] = getattr(importlib.import_module(module), function)()
    return runpy.run_path(str(Path(folder) / "hook-sao_onnx.py"))


def _collected(hook, **settings):
    """The files that the hook adds, with the folders that they go to."""
    found: list[tuple[str, str]] = []
    api = SimpleNamespace(analysis=SimpleNamespace(hooksconfig=settings), add_datas=found.extend)
    hook["hook"](api)
    return {Path(source): Path(target) for source, target in found}


def test_the_hook_collects_the_bundle(hook):
    files = _collected(hook)
    bundle = PACKAGE / "bundles" / "sao-tiny"
    wanted = {path for path in bundle.rglob("*") if path.is_file()}
    assert wanted
    assert wanted <= files.keys()
    assert bundle / "LICENSE" in files
    assert PACKAGE / "serve" / "page" / "page.html" in files
    # Where the engine looks for them.
    assert all(target == Path("sao_onnx") / source.parent.relative_to(PACKAGE) for source, target in files.items())


def test_a_model_can_be_left_out(hook):
    files = _collected(hook, sao_onnx={"sao-tiny": False})
    assert files
    assert not [path for path in files if "bundles" in path.parts]
    assert _collected(hook, sao_onnx={"sao-tiny": True}) == _collected(hook) == _collected(hook, another={})


def test_what_is_looked_up_by_name_is_told(hook):
    for name in hook["hiddenimports"]:
        assert importlib.util.find_spec(name) is not None
    homes = {f"sao_onnx.{home}" for home in sao_onnx._HOMES.values()}
    # Their imports are found from there.
    assert {home for home in homes if home.count(".") == 1} - {"sao_onnx.clip"} <= set(hook["hiddenimports"])


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """An environment with the wheel and PyInstaller."""
    try:
        return frozen.environment(tmp_path_factory.mktemp("environment"), "pyinstaller")
    except SystemExit as error:
        pytest.skip(f"PyInstaller cannot be had: {error}")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["folder", "file", "less"])
def test_a_frozen_application_makes_the_same_clip(python, tmp_path, name):
    program = frozen.frozen(python, tmp_path / "built", name)
    # What it was made from may be gone.
    moved = tmp_path / "given" / program.name
    moved.parent.mkdir()
    if frozen.FORMS[name].program == "dist/app":
        program.rename(moved)
    else:
        program.parent.rename(moved)
        moved /= program.name
    frozen.alone([moved], tmp_path / "home", "clip.wav")
    application = tmp_path / "app.py"
    application.write_text(frozen.APPLICATION)
    frozen.alone([python, application], tmp_path / "other home", "clip.wav")
    clip = (tmp_path / "home" / "clip.wav").read_bytes()
    assert len(clip) > 100_000
    assert clip == (tmp_path / "other home" / "clip.wav").read_bytes()


@pytest.mark.slow
def test_without_the_hook_there_would_be_no_model(python, tmp_path):
    """So the test above shows that it is the hook that brings it."""
    program = frozen.frozen(python, tmp_path / "built", "folder")
    [bundle] = (program.parent).rglob("bundles")
    bundle.rename(tmp_path / "bundles")
    with pytest.raises(SystemExit, match="BundleNotFoundError"):
        frozen.alone([program], tmp_path / "home", "clip.wav")
