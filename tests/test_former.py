"""Files of every format that a release wrote go on to open. They lie in `tests/former`, as that release wrote them.

A new format brings a new file: the present release writes it, and it is never written again.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from sao_onnx.bundle import manifest
from sao_onnx.bundle.bundle import open_bundle
from sao_onnx.bundle.known import Known, known_file, read_known
from sao_onnx.bundle.manifest_json import parse_manifest
from sao_onnx.cli import app
from sao_onnx.errors import BundleError
from sao_onnx.provenance import FORMAT, read_provenance
from sao_onnx.runtime.tuning import Tuning, saved_tuning, tuning_path

FORMER = Path(__file__).parent / "former"
FIRST_MANIFEST = Path(__file__).parent / "first_sao_tiny" / "manifest.json"

records = pytest.mark.parametrize("version", range(1, FORMAT + 1))


@records
@pytest.mark.parametrize("suffix", [".flac", ".json"])
def test_records(version, suffix):
    found = read_provenance(FORMER / f"record_{version}{suffix}")
    assert (found.format, found.prompt, found.seed, found.model) == (version, "slow rain, 雨", 5, "miniature")
    assert found.options == {"seconds": 0.1, "steps": 2, "sampler": "euler", "fade_out": 0.05, "mono": True}
    assert found.tuning == Tuning(2, 2, (16, 2), "fp32", "fp32")
    assert (found.init_audio, found.init_sha256) == (None, None)
    assert found.bits == (None if version == 1 else 24)


@records
def test_clips_are_made_again(version, miniature, command, tmp_path):
    shutil.copy(FORMER / f"record_{version}.flac", tmp_path / "old.flac")
    done = command("gen", "--from", "old.flac", "--model", str(miniature), "-o", "new.flac")
    assert done.returncode == 0, done.stderr
    old, new = (soundfile.read(tmp_path / name)[0] for name in ("old.flac", "new.flac"))
    # A value of single precision may be rounded to the next of 16 bits on another processor.
    np.testing.assert_allclose(new, old, rtol=0, atol=1.1 / 2**15)


def test_tunings(miniature, monkeypatch, tmp_path):
    monkeypatch.setattr("platformdirs.user_state_path", lambda name: tmp_path / name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    bundle = open_bundle(miniature)
    path = tuning_path(bundle)
    path.parent.mkdir(parents=True)
    shutil.copy(FORMER / "tuning.json", path)
    assert saved_tuning(bundle) == Tuning(1, 2, (3, 1), "fp32", "int8", {"session.intra_op.allow_spinning": "0"})


def test_names_of_models(monkeypatch, tmp_path):
    monkeypatch.setattr("platformdirs.user_data_path", lambda name: tmp_path / name)
    known_file().parent.mkdir(parents=True)
    shutil.copy(FORMER / "models.json", known_file())
    assert read_known() == Known({"rain": "/home/user/rain 雨"}, "rain")


def test_settings(monkeypatch):
    """Every key that a release took is taken by the next ones, until a changelog says otherwise."""
    monkeypatch.setenv("SAO_ONNX_CONFIG", str(FORMER / "config.toml"))
    done = CliRunner().invoke(app, ["config", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)["settings"]
    assert {key: row["value"] for key, row in found["gen"].items()} == {
        "model": "sao-tiny",
        "steps": 3,
        "cfg_scale": 1.5,
        "sampler": "euler",
        "numbers": {"seconds_total": 3},
        "metadata": False,
        "output": "{prompt}-{seed}.flac",
        "count": 2,
        "play": False,
    }
    assert found["batch"]["jobs"]["value"] == 2
    assert found["serve"]["allow_host"]["value"] == ["studio.local"]
    assert found["tune"]["budget"]["value"] == 60


def test_every_file_is_opened():
    """By a test above: whoever adds a file adds the test."""
    text = Path(__file__).read_text(encoding="utf-8")
    named = {f"record_{version}{suffix}" for version in range(1, FORMAT + 1) for suffix in (".flac", ".json")}
    assert {path.name for path in FORMER.iterdir()} == named | {"tuning.json", "models.json", "config.toml"}
    assert all(f'FORMER / "{name}"' in text for name in ("tuning.json", "models.json", "config.toml"))


def test_bundles(miniature):
    """What a bundle of the present format held when the format was new; the first edition of sao-tiny is opened elsewhere."""
    for path in (FIRST_MANIFEST, miniature / "manifest.json"):
        text = path.read_text(encoding="utf-8")
        assert json.loads(text)["format"] == manifest.FORMAT
        assert parse_manifest(text).format == manifest.FORMAT


@pytest.mark.parametrize(("version", "remedy"), [(manifest.FORMAT - 1, "convert the model again"), (9, "upgrade sao-onnx")])
def test_bundles_of_other_formats_name_the_remedy(miniature, version, remedy):
    data = json.loads((miniature / "manifest.json").read_text(encoding="utf-8")) | {"format": version}
    with pytest.raises(BundleError, match=rf"format {version}, this release reads format {manifest.FORMAT}: {remedy}"):
        parse_manifest(json.dumps(data))
