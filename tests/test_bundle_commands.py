"""The commands that read bundles, with bundles that come from anybody."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from sao_onnx.bundle.checked import digest

HOSTILE = "\x1b[2J\x1b]0;title\x07\r\nerror: fake\u202e\x9b1m"


def _rename(bundle, text):
    """Give a bundle a text wherever its manifest holds one that means nothing to the engine."""
    path = bundle / "manifest.json"
    data = json.loads(path.read_text())
    data["model"] = {"name": text, "source": text, "revision": text}
    data["tools"] = {text: text}
    path.write_text(json.dumps(data))


@pytest.fixture
def models(tmp_path):
    """The user's folder of models."""
    folder = tmp_path / "data" / "sao-onnx" / "models"
    folder.mkdir(parents=True)
    return folder


def test_names_from_a_manifest_do_not_steer_the_terminal(bundle, command, models):
    _rename(bundle, HOSTILE)
    shutil.copytree(bundle, models / "hostile")
    (models / "damaged\x1b[2J").mkdir()
    (models / "damaged\x1b[2J" / "manifest.json").write_text(json.dumps({"format": 2, HOSTILE: HOSTILE}))
    for arguments in (["inspect", bundle], ["verify", bundle], ["doctor", "-m", bundle], ["models"]):
        done = command(*arguments, XDG_DATA_HOME=str(models.parent.parent))
        assert done.returncode == 0, done.stderr
        for line in done.stdout.splitlines():
            assert line.isprintable(), arguments
            assert not line.startswith("error")


def test_inspect_in_json_keeps_what_is_there(bundle, command):
    _rename(bundle, HOSTILE)
    done = command("inspect", bundle, "--json")
    assert json.loads(done.stdout)["model"]["name"] == HOSTILE
    assert done.stdout.strip().isprintable()


def _fifo(bundle):
    (bundle / "manifest.json").unlink()
    os.mkfifo(bundle / "manifest.json")


def _endless(bundle):
    (bundle / "manifest.json").unlink()
    (bundle / "manifest.json").symlink_to("/dev/zero")


def _large(bundle):
    with (bundle / "manifest.json").open("r+b") as stream:
        stream.truncate(100_000_000)


def _deep(bundle):
    (bundle / "manifest.json").write_text("[" * 100_000)


def _missing(bundle):
    (bundle / "tokenizer.json").unlink()


def _outside(bundle):
    text = (bundle / "manifest.json").read_text()
    (bundle / "manifest.json").write_text(text.replace('"path": "LICENSE"', '"path": "../../../etc/passwd"'))


DAMAGES = [_fifo, _endless, _large, _deep, _missing, _outside]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_bundle_that_cannot_be_used(bundle, command, models, damage):
    """One line, exit code 3; and a list of models is a list all the same."""
    if damage is _fifo and not hasattr(os, "mkfifo"):
        pytest.skip("there are no FIFOs here")
    damage(bundle)
    for arguments in (["gen", "rain", "-m", bundle], ["inspect", bundle], ["verify", bundle], ["doctor", "-m", bundle]):
        done = command(*arguments)
        assert done.returncode == 3, arguments
        assert done.stdout == ""
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
    bundle.rename(models / "mine")
    listed = command("models", XDG_DATA_HOME=str(models.parent.parent))
    assert listed.returncode == 0, listed.stderr
    assert "mine             cannot be used: " in listed.stdout
    assert "sao-tiny" in listed.stdout


def test_damaged_weights(bundle, command, tmp_path):
    path = bundle / "int8" / "dit.onnx.data"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    done = command("gen", "rain", "-m", bundle, "-o", "a.wav", "--seconds", "0.1", "--steps", "1")
    assert done.returncode == 3
    assert "int8/dit.onnx.data is damaged: its SHA-256 is not the manifest's; copy or convert the bundle again" in done.stderr
    assert not (tmp_path / "a.wav").exists()
    assert command("verify", bundle).returncode == 3
    unchecked = command("gen", "rain", "-m", bundle, "-o", "a.wav", "--seconds", "0.1", "--steps", "1", SAO_ONNX_VERIFY="0")
    assert unchecked.returncode == 0, unchecked.stderr
    # Mended, it is used again.
    manifest = json.loads((bundle / "manifest.json").read_text())
    for file in manifest["files"]:
        file["sha256"] = digest(bundle / file["path"])
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    assert command("verify", bundle).returncode == 0


@pytest.mark.parametrize("value", ["~nobody-of-this-name/x", "x" * 5000, "a/" * 3000, " ", "\x1b[2J"])
def test_models_that_nobody_has(command, value):
    done = command("inspect", value)
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    assert command("models", SAO_ONNX_MODEL=value).returncode == 0
