from __future__ import annotations

import json
from typing import Any

import pytest

from sao_onnx.bundle.manifest import FORMAT, parse_manifest, safe_path
from sao_onnx.errors import BundleError


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


def test_decoder_stages(data):
    first, *others = data["decoder"]
    _refused(data | {"decoder": [first]}, "found 1 stages, expected 2 or 3")
    _refused(data | {"decoder": [first | {"tile": 3}, *others]}, r"decoder\[0\]: the first stage must have rate 1")
    _refused(data | {"decoder": [first, others[0] | {"rate": 7}, *others[1:]]}, r"decoder\[1\]: rate must divide the next")
    _refused(data | {"decoder": [first, others[0] | {"tile": 0}, *others[1:]]}, "tile at least 1")


def test_an_incomplete_precision(data):
    data["graphs"] = [graph for graph in data["graphs"] if graph["role"] != "dit"]
    _refused(data, "no precision is complete")


def test_other_objective(data):
    data["sampling"]["objective"] = "v"
    _refused(data, r"sampling\.objective: found 'v', expected one of 'rf_denoiser', 'rectified_flow'")
