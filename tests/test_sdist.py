"""The source archive carries what its tests need, and they need no more than the engine.

The whole way, from the archive to its tests in an environment of its own, needs a package index: `make test-engine`.
"""

from __future__ import annotations

import os
import sys
import tarfile
import venv
from pathlib import Path

import pytest

from tests.conftest import EXTRAS, ROOT
from tests.processes import run, succeed


def test_the_tests_are_collected_without_any_extra():
    command = [sys.executable, "-m", "pytest", "-p", "tests.without_extras", "-p", "no:cacheprovider", "--collect-only", "-rs"]
    done = run([*command, "-p", "no:xdist", ROOT / "tests"], cwd=ROOT)
    assert done.returncode == 0, done.stdout
    assert "needs torch: pip install '.[convert]'" in done.stdout
    # Left over are those of the engine.
    for module in ("test_engine", "test_cli", "test_request", "test_sampler"):
        assert f"tests/{module}.py::" in done.stdout


def test_what_is_broken_is_not_skipped(tmp_path):
    """Only what an extra brings may be missing."""
    (tmp_path / "conftest.py").write_text("from tests.conftest import pytest_pycollect_makemodule, pytest_pyfunc_call\n")
    (tmp_path / "test_a.py").write_text("import sao_onnx.nothing\n")
    (tmp_path / "test_b.py").write_text("def test(): import sao_onnx.nothing\n")
    (tmp_path / "test_c.py").write_text("def test(): import torch\n")
    (tmp_path / "test_d.py").write_text("import torch.nothing\n")
    command = [sys.executable, "-m", "pytest", "-p", "tests.without_extras", "-p", "no:cacheprovider", "--rootdir", tmp_path]
    done = run([*command, "--continue-on-collection-errors", tmp_path], env=os.environ | {"PYTHONPATH": _path()})
    assert done.returncode == 1
    assert "1 failed, 2 skipped, 1 error" in done.stdout, done.stdout


def _path() -> str:
    return os.pathsep.join(str(folder) for folder in (ROOT, ROOT / "engine", ROOT / "convert"))


@pytest.mark.slow
def test_the_archives_own_tests(tmp_path, monkeypatch):
    for name in ("PYTHONPATH", "SAO_ONNX_MODEL"):
        monkeypatch.delenv(name, raising=False)
    succeed([sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", tmp_path, ROOT])
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as files:
        files.extractall(tmp_path, filter="data")
    source = archive.with_name(archive.name.removesuffix(".tar.gz"))
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    succeed([python, "-m", "pip", "--disable-pip-version-check", "--quiet", "install", source, "pytest"])
    others = "import importlib.util as u; print(*[name for name in {} if u.find_spec(name)])".format(sorted(EXTRAS["convert"]))
    assert "torch" not in succeed([python, "-c", others])
    # Of the package that is installed, and not of the folder.
    place = succeed([python, "-c", "import sao_onnx; print(sao_onnx.__file__)"], cwd=source)
    assert Path(place.strip()).is_relative_to(tmp_path / "venv")
    done = run([python, "-m", "pytest", "-p", "no:cacheprovider", "-rs"], cwd=source)
    assert done.returncode == 0, done.stdout[-10_000:]
    assert " passed" in done.stdout
