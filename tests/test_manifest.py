from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any, get_args

import pytest

from sao_onnx.bundle.bundle import Bundle
from sao_onnx.bundle.manifest import FORMAT, Manifest, Sampling, StageName
from sao_onnx.bundle.manifest_json import parse_manifest, safe_path
from sao_onnx.errors import BundleError
from tests.conftest import ROOT


@pytest.fixture
def data(miniature) -> dict[str, Any]:
    return json.loads((miniature / "manifest.json").read_text())


def _refused(data: dict[str, Any], match: str) -> None:
    with pytest.raises(BundleError, match=match):
        parse_manifest(json.dumps(data))


def test_round_trip(miniature):
    text = (miniature / "manifest.json").read_text()
    manifest = parse_manifest(text)
    assert manifest.to_json() == text
    assert manifest.precisions == ("int8", "fp32")
    assert manifest.window_latents * manifest.latents.ratio == manifest.audio.window
    assert {graph.role for graph in manifest.graphs} == set(manifest.roles)


def test_every_role_belongs_to_one_stage(miniature):
    manifest = parse_manifest((miniature / "manifest.json").read_text())
    assert tuple(role for stage in get_args(StageName) for role in manifest.stage_roles(stage)) == manifest.roles
    assert manifest.stage_roles("decoder") == ("decoder_1", "decoder_2", "decoder_3")
    assert replace(manifest, decoder=manifest.decoder[:2]).stage_roles("decoder") == ("decoder_1", "decoder_2")


SMALL = ROOT / "tests" / "manifests" / "small.json"

FINGERPRINT = "7d76bb3e9c7d"
"""What the first release computed for `SMALL`. Files with a clip's settings and saved tunings name bundles like this."""


def test_a_fingerprint_stays_from_release_to_release():
    assert Bundle(SMALL.parent, parse_manifest(SMALL.read_text(encoding="utf-8"))).fingerprint == FINGERPRINT


@pytest.mark.parametrize("text", [json.dumps, lambda data: json.dumps(data, sort_keys=True, indent=8)])
def test_a_fingerprint_does_not_depend_on_how_the_file_is_laid_out(text):
    data = json.loads(SMALL.read_text(encoding="utf-8"))
    assert Bundle(SMALL.parent, parse_manifest(text(data))).fingerprint == FINGERPRINT


def test_a_fingerprint_depends_on_every_field():
    data = json.loads(SMALL.read_text(encoding="utf-8"))
    found = {FINGERPRINT}
    for change in (
        {"model": data["model"] | {"revision": "1"}},
        {"sampling": data["sampling"] | {"cfg_scale": 2.0}},
        {"tools": {"sao-onnx": "0"}},
        {"files": [data["files"][0] | {"sha256": "1" * 64}, *data["files"][1:]]},
    ):
        found.add(Bundle(SMALL.parent, parse_manifest(json.dumps(data | change))).fingerprint)
    assert len(found) == 5


def test_a_field_with_a_default_changes_no_fingerprint():
    """As a later release may add one, to the manifest or to an object in it."""

    @dataclass(frozen=True)
    class LaterSampling(Sampling):
        schedule: str = "logistic"
        extra: tuple[int, ...] = field(default_factory=tuple)

    @dataclass(frozen=True)
    class LaterManifest(Manifest):
        note: str | None = None

    today = parse_manifest(SMALL.read_text(encoding="utf-8"))
    values = {name: value for name, value in vars(today).items() if name != "sampling"}

    def later(note=None, **sampling):
        return LaterManifest(**values, sampling=LaterSampling(**vars(today.sampling), **sampling), note=note)

    assert Bundle(SMALL.parent, later()).fingerprint == FINGERPRINT
    others = [later(note="a"), later(schedule="linear"), later(extra=(1,))]
    assert len({FINGERPRINT, *(Bundle(SMALL.parent, manifest).fingerprint for manifest in others)}) == 4
    # What is written has every field.
    assert json.loads(later().to_json())["note"] is None


def test_the_margin_of_the_encoder_identifies_nothing(data):
    """It follows from the graphs, so it can be added to a bundle whose fingerprint files have recorded."""
    assert data["latents"].pop("margin") == 5
    without = parse_manifest(json.dumps(data))
    assert without.latents.margin is None
    fingerprints = set()
    for margin in (None, 5, 6):
        manifest = parse_manifest(json.dumps(data | {"latents": data["latents"] | {"margin": margin}}))
        assert manifest.latents.margin == margin
        fingerprints.add(Bundle(SMALL.parent, manifest).fingerprint)
    assert fingerprints == {Bundle(SMALL.parent, without).fingerprint}
    _refused(data | {"latents": data["latents"] | {"margin": -1}}, r"latents\.margin: found -1, expected at least 0")


def test_not_json():
    with pytest.raises(BundleError, match="not valid JSON"):
        parse_manifest("{")


def test_not_an_object():
    with pytest.raises(BundleError, match="format None"):
        parse_manifest("[]")


@pytest.mark.parametrize(
    ("version", "remedy"), [(FORMAT + 1, "upgrade sao-onnx"), (0, "convert the model again"), ("1", "convert")]
)
def test_other_versions(data, version, remedy):
    _refused(data | {"format": version}, remedy)


def test_missing_field(data):
    del data["audio"]["window"]
    _refused(data, r"audio\.window: missing")


def test_unknown_field(data):
    data["audio"]["colour"] = 1
    _refused(data, r"audio\.colour: unknown field")


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "C:\\x", "a\\b", "c:x", ""])
def test_unsafe_paths(data, path):
    assert not safe_path(path)
    data["files"][0]["path"] = path
    _refused(data, "unsafe path")


def test_a_path_twice(data):
    data["files"].append(data["files"][0])
    _refused(data, "twice")


def test_a_file_that_is_used_but_not_listed(data):
    data["files"] = [file for file in data["files"] if not file["path"].endswith("dit.onnx.data")]
    _refused(data, r"dit\.onnx\.data' is used but not listed")


def test_unknown_conditioner(data):
    data["conditioning"]["cross_attention"].append("colour")
    _refused(data, "'colour' is not a conditioner")


def test_sizes(data):
    _refused(data | {"audio": data["audio"] | {"sample_rate": 0}}, r"audio\.sample_rate: found 0")


def test_segments_of_the_decoder(data):
    first, *others = data["decoder"]
    _refused(data | {"decoder": [first]}, "found 1 segments, expected 2 or 3")
    _refused(data | {"decoder": [first | {"tile": 3}, *others]}, r"decoder\[0\]: the first segment must have rate 1")
    _refused(data | {"decoder": [first, others[0] | {"rate": 7}, *others[1:]]}, r"decoder\[1\]: rate must divide the next")
    _refused(data | {"decoder": [first, others[0] | {"tile": 0}, *others[1:]]}, "tile at least 1")


def test_an_incomplete_precision(data):
    data["graphs"] = [graph for graph in data["graphs"] if graph["role"] != "dit"]
    _refused(data, "no precision is complete")


def test_other_objective(data):
    data["sampling"]["objective"] = "v"
    _refused(data, r"sampling\.objective: found 'v', expected one of 'rf_denoiser', 'rectified_flow'")
