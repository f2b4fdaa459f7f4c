"""Models by name: those that the user keeps in one folder, and those that the user named."""

from __future__ import annotations

import json
import pickle
import shlex
import shutil
from pathlib import Path

import pytest

import sao_onnx
from sao_onnx.bundle.known import known_file, read_known
from sao_onnx.bundle.names import BUILT_IN, built_in_folder, find, named_models, user_folder
from sao_onnx.bundle.naming import add, choose, remove
from sao_onnx.errors import BundleError, FileError, RequestError


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


def test_names_for_bundles_elsewhere(home, bundle, command):
    added = command("models", "add", bundle, "--name", "mini")
    assert added.returncode == 0, added.stderr
    add(bundle, "mini")  # Once more is no harm.
    assert find("mini") == bundle
    assert find("bundle") == Path("bundle")
    listed = {model["name"]: model["folder"] for model in json.loads(command("models", "--json").stdout)["models"]}
    assert listed["mini"] == str(bundle)
    gone = command("models", "remove", "mini")
    assert gone.returncode == 0, gone.stderr
    assert find("mini") == Path("mini")
    assert (bundle / "manifest.json").exists()
    with pytest.raises(RequestError, match="there is no model 'mini'"):
        remove("mini")
    # By the name of its folder.
    add(f"{bundle}/../bundle/")
    assert find("bundle") == bundle


def test_the_default_model(home, bundle, command):
    add(bundle, "mini")
    with pytest.raises(RequestError, match="there is no model 'nothing'; known: mini, sao-tiny"):
        choose("nothing")
    assert command("models", "default", "mini").returncode == 0
    assert find() == bundle
    assert sao_onnx.load().manifest.model.name == "miniature"
    marks = {line[2:].split()[0]: line[0] for line in command("models").stdout.splitlines()}
    assert marks == {"mini": "*", BUILT_IN: " "}
    # What is named comes first, and a name that is forgotten is no default.
    assert "sao-tiny" in command("inspect", SAO_ONNX_MODEL="sao-tiny").stdout
    remove("mini")
    assert find() == built_in_folder() / BUILT_IN
    add(bundle, "mini")
    choose("mini")
    choose(BUILT_IN)
    assert read_known().default is None
    (bundle / "tokenizer.json").unlink()
    with pytest.raises(BundleError, match=r"tokenizer\.json is missing"):
        choose("mini")


def test_an_engine_of_the_default_model_is_found_where_another_is_the_default(home, bundle):
    add(bundle, "mini")
    choose("mini")
    engine = sao_onnx.load(threads=1)
    choose(BUILT_IN)
    assert pickle.loads(pickle.dumps(engine)).bundle.folder == bundle


def test_deleting(home, miniature, bundle):
    shutil.copytree(miniature, home / "mini")
    with pytest.raises(RequestError, match=r"mini has its name from where it lies, .*--delete"):
        remove("mini")
    add(home / "mini", "other")
    remove("other")
    assert find("mini") == home / "mini"
    choose("mini")
    assert remove("mini", delete=True) == home / "mini"
    assert list(home.iterdir()) == []
    assert find() == built_in_folder() / BUILT_IN
    # What lies elsewhere is never deleted, not even by way of a link.
    add(bundle, "elsewhere")
    with pytest.raises(RequestError, match=r"is not in .*, so it is not deleted here"):
        remove("elsewhere", delete=True)
    (home / "linked").symlink_to(bundle)
    remove("linked", delete=True)
    assert (bundle / "manifest.json").exists()
    assert list(home.iterdir()) == []
    # A link by another name than its own: nothing is changed.
    (home / "link").symlink_to(bundle)
    add(home / "link", "named")
    with pytest.raises(RequestError, match="is a link"):
        remove("named", delete=True)
    assert [path.name for path in home.iterdir()] == ["link"]
    remove("named")
    (home / "link").unlink()
    (home / "empty").mkdir()
    with pytest.raises(RequestError, match="there is no model 'empty'; known: elsewhere, sao-tiny"):
        remove("empty", delete=True)


@pytest.mark.parametrize("name", ["", ".", "..", "../mini", "a/b", ".hidden", "-m", "~", "con", "a\nb", "x" * 300])
@pytest.mark.parametrize("act", [lambda name, bundle: add(bundle, name), lambda name, bundle: remove(name, delete=True)])
def test_what_is_no_name(home, bundle, act, name):
    with pytest.raises(RequestError, match="can be no name"):
        act(name, bundle)
    assert (bundle / "manifest.json").exists()


def test_what_is_not_added(home, bundle, command, tmp_path):
    shutil.copytree(bundle, home / "mini")
    for name, where in (("mini", home / "mini"), (BUILT_IN, built_in_folder() / BUILT_IN)):
        with pytest.raises(RequestError, match=f"{name} is the name of {where}; choose another with --name"):
            add(bundle, name)
    with pytest.raises(RequestError, match="sao-tiny comes with sao-onnx, and stays"):
        remove(BUILT_IN, delete=True)
    (bundle / "fp32" / "dit.onnx").unlink()
    assert command("models", "add", bundle).returncode == 3
    assert command("models", "add", tmp_path / "nothing").returncode == 3
    # What has to be converted first: a repository, or a folder with a checkpoint.
    (tmp_path / "a checkpoint").mkdir()
    (tmp_path / "a checkpoint" / "model_config.json").write_text("{}")
    for given, target in (("some/finetune@v1", home / "finetune"), (tmp_path / "a checkpoint", home / "a checkpoint")):
        done = command("models", "add", given)
        assert done.returncode == 2
        assert shlex.join(["sao-onnx", "convert", str(given), "-o", str(target)]) in done.stderr


@pytest.mark.parametrize(
    "text",
    ["{", '{"folders": 3}', '{"folders": {"a": 1}}', '{"other": 1}', "[]", '{"default": "\\ud800"}', "\xff" * 9, "[" * 99],
)
def test_a_list_of_names_that_cannot_be_read(home, miniature, command, text):
    known_file().write_text(text, encoding="latin-1")
    with pytest.raises(BundleError, match=r"holds no names of models: .*; remove it"):
        find("mini")
    with pytest.raises(BundleError, match="holds no names of models"):
        sao_onnx.load()
    # Folders need no names.
    assert find(miniature) == miniature


def test_a_list_of_names_that_is_no_file(home, command):
    known_file().mkdir()
    assert command("models").returncode == 3
    assert "Traceback" not in command("gen", "rain").stderr


def test_names_without_a_home(bundle, monkeypatch):
    def no_home(kind):
        raise FileError("this user has no home folder")

    for module in ("known", "names"):
        monkeypatch.setattr(f"sao_onnx.bundle.{module}.user_path", no_home)
    assert find("mini") == Path("mini")
    assert find() == built_in_folder() / BUILT_IN
    assert [model.name for model in named_models()] == [BUILT_IN]
    with pytest.raises(FileError, match="no home folder"):
        add(bundle)
