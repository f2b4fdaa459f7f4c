"""Models by name: those that the user keeps in one folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import sao_onnx
from sao_onnx.bundle.names import BUILT_IN, built_in_folder, find, named_models, user_folder


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """The user's folder of models, empty."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    user_folder().mkdir(parents=True)
    return user_folder()


def test_without_a_name():
    assert find() == built_in_folder() / BUILT_IN
    assert sao_onnx.load().manifest.model.name == "sao-tiny"


def test_names_and_folders(home, miniature, tmp_path, monkeypatch):
    shutil.copytree(miniature, home / "mini")
    assert find("mini") == home / "mini"
    assert find(str(miniature)) == miniature
    assert find(Path("some") / "where") == Path("some") / "where"
    assert find("nothing") == Path("nothing")
    # A folder of that name comes first.
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mini").mkdir()
    assert find("mini") == Path("mini")


def test_what_is_known(home, miniature):
    shutil.copytree(miniature, home / "mini")
    shutil.copytree(miniature, home / "damaged")
    (home / "damaged" / "fp32" / "dit.onnx").unlink()
    (home / "empty").mkdir()
    models = {model.name: model for model in named_models()}
    assert list(models) == ["damaged", "mini", BUILT_IN]
    assert models["mini"].bundle is not None
    assert models["damaged"].bundle is None
    assert "fp32/dit.onnx is missing" in models["damaged"].problem
    assert models[BUILT_IN].folder == find(BUILT_IN) == find()
    # The user's own of that name comes first.
    shutil.copytree(miniature, home / BUILT_IN)
    assert {model.name: model.folder for model in named_models()}[BUILT_IN] == find(BUILT_IN) == home / BUILT_IN
    assert find() != find(BUILT_IN)


def test_the_command(home, miniature, command):
    shutil.copytree(miniature, home / "mini")
    shutil.copytree(miniature, home / "damaged")
    (home / "damaged" / "fp32" / "dit.onnx").unlink()
    listed = command("models")
    assert listed.returncode == 0, listed.stderr
    marks = {line[2:].split()[0]: line[0] for line in listed.stdout.splitlines()}
    assert marks == {"damaged": " ", "mini": " ", BUILT_IN: "*"}
    assert "cannot be used: " in listed.stdout
    chosen = json.loads(command("models", "--json", SAO_ONNX_MODEL="mini").stdout)
    assert [model["name"] for model in chosen["models"] if model["default"]] == ["mini"]
    elsewhere = command("models", SAO_ONNX_MODEL=str(miniature))
    assert f"* {miniature}" in elsewhere.stdout
    assert "miniature" in command("inspect", "mini").stdout
    missing = command("inspect", "nothing")
    assert missing.returncode == 3
    assert "sao-onnx models" in missing.stderr
