from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any, get_args

import pytest

from sao_onnx.bundle.bundle import Bundle, open_bundle
from sao_onnx.bundle.manifest import FORMAT, Base, Manifest, Sampling, StageName
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


def test_where_parts_came_from_is_written_only_where_there_are_such():
    """So that releases that do not know the fields read every other manifest; and no fingerprint changes."""
    plain = parse_manifest(SMALL.read_text(encoding="utf-8"))
    assert json.loads(plain.to_json())["model"].keys() == {"name", "source", "revision"}
    base = Base("owner/base", "abc", None, ("autoencoder",))
    mixed = replace(plain, model=replace(plain.model, weights="bass.ckpt", base=base))
    assert parse_manifest(mixed.to_json()) == mixed
    assert Bundle(SMALL.parent, mixed).fingerprint != FINGERPRINT


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
    _refused(data | {"latents": data["latents"] | {"margin": -1}}, r"latents\.margin: found -1, expected 0 to")


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


UNSAFE = ["/etc/passwd", "../x", "a/../../x", "a/..", ".", "", "a//b", "a/", "./a", "a/./b", "x" * 201, "Manifest.json"]
UNSAFE += ["C:\\x", "a\\b", "c:x", "a.", "a /b", "nul", "a/CON.txt", "com1.onnx", "a*", "a?b"]
UNSAFE += ["a\n", "a\x1b[2Jb", "a\0b", "a\u202eb", "\ud800"]


@pytest.mark.parametrize("path", UNSAFE, ids=ascii)
def test_unsafe_paths(data, path):
    assert not safe_path(path)
    data["files"][0]["path"] = path
    _refused(data, "unsafe path|half a character")


@pytest.mark.parametrize(
    "path", ["LICENSE", "int8/decoder_1.half.onnx.data", "a b/c.d-e_f(1)", "für alle.md", "a/.b", "console"]
)
def test_safe_paths(path):
    assert safe_path(path)


def test_a_path_twice(data):
    for same in (data["files"][0]["path"], data["files"][0]["path"].swapcase()):
        _refused(data | {"files": [*data["files"], data["files"][0] | {"path": same}]}, "twice")
    data["files"] += [data["files"][0] | {"path": name} for name in ("caf\u00e9", "cafe\u0301")]
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
    _refused(data | {"decoder": [first, others[0] | {"rate": 7}, *others[1:]]}, r"decoder\[1\]\.rate: .* divide the next one")
    _refused(data | {"decoder": [first, others[0] | {"tile": 0}, *others[1:]]}, r"decoder\[1\]\.tile: found 0, expected 1 to")


def test_an_incomplete_precision(data):
    data["graphs"] = [graph for graph in data["graphs"] if graph["role"] != "dit"]
    _refused(data, "no precision is complete")


def test_other_objective(data):
    data["sampling"]["objective"] = "v"
    _refused(data, r"sampling\.objective: found 'v', expected one of 'rf_denoiser', 'rectified_flow'")


LARGE = 10**400

DAMAGES: list[tuple[str, object, str]] = [
    # Where, what is put there, what the message says.
    ("audio.sample_rate", -44100, r"audio\.sample_rate: found -44100, expected 1000 to"),
    ("audio.sample_rate", LARGE, r"audio\.sample_rate: found a number of many digits"),
    ("audio.sample_rate", 44100.0, "expected a whole number"),
    ("audio.channels", 0, r"audio\.channels: found 0"),
    ("audio.channels", 10**6, r"audio\.channels"),
    ("audio.window", 2**64, r"audio\.window"),
    ("audio.window", 511, r"latents\.ratio: found 512, expected 1 to 511"),
    ("latents.channels", 2**40, r"latents\.channels"),
    ("latents.channels", 60000, r"none|audio\.window|graphs"),
    ("latents.ratio", -512, r"latents\.ratio"),
    ("latents.ratio", LARGE, r"latents\.ratio"),
    ("conditioning.width", 10**9, r"conditioning\.width"),
    ("conditioning.width", 64, r"graphs: text_encoder in fp32: 'embeddings' has the axes"),
    ("conditioning.prompt.max_length", 2**63, r"max_length"),
    ("conditioning.prompt.max_length", 0, r"max_length"),
    ("conditioning.prompt.pad_id", 2**63, r"pad_id"),
    ("conditioning.prompt.pad_id", -1, r"pad_id"),
    ("conditioning.prompt.id", "seconds_total", "an id occurs twice"),
    ("conditioning.numbers", [], r"conditioning\.numbers: number of entries: found 0"),
    ("conditioning.numbers.0.minimum", 300.0, "minimum is more than maximum"),
    ("conditioning.numbers.0.maximum", LARGE, "expected a finite number"),
    ("conditioning.numbers.0.id", "self", "'seconds_total' is not a conditioner"),
    ("conditioning.cross_attention", [], "number of entries: found 0"),
    ("conditioning.cross_attention", ["prompt"] * 5000, "number of entries: found 5000"),
    ("conditioning.global_condition", [], "number of entries: found 0"),
    ("conditioning.global_condition", ["prompt"], "is text, expected numbers"),
    ("conditioning.global_condition", ["seconds_total"] * 2, "graphs: dit in fp32: 'global_condition' has the axes"),
    ("sampling.steps", 10**9, r"sampling\.steps"),
    ("sampling.steps", LARGE, r"sampling\.steps"),
    ("sampling.cfg_scale", 1e300, r"sampling\.cfg_scale"),
    ("sampling.cfg_scale", -1, r"sampling\.cfg_scale"),
    ("decoder.1.rate", 0, r"decoder\[1\]\.rate"),
    ("decoder.1.rate", -16, r"decoder\[1\]\.rate"),
    ("decoder.1.rate", LARGE, r"decoder\[1\]\.rate"),
    ("decoder.1.context", -1, r"decoder\[1\]\.context"),
    ("decoder.1.context", 2**31, r"decoder\[1\]\.context"),
    ("decoder.1.tile", -1, r"decoder\[1\]\.tile"),
    ("decoder.2.tile", LARGE, r"decoder\[2\]\.tile"),
    ("decoder", [], "found 0 segments"),
    ("files", [], "files: found 0"),
    ("files.0.size", 2**64, r"files\[0\]\.size"),
    ("files.0.size", -1, r"files\[0\]\.size"),
    ("files.0.sha256", "z" * 64, r"files\[0\]\.sha256"),
    ("files.0.sha256", "", r"files\[0\]\.sha256"),
    ("graphs", [], "no precision is complete"),
    ("graphs.0.inputs", [], r"text_encoder in fp32: found the inputs \[\], expected input_ids, attention_mask"),
    ("graphs.0.inputs.0.name", "self", r"text_encoder in fp32: found the inputs"),
    ("graphs.0.inputs.1.name", "input_ids", r"text_encoder in fp32: found the inputs"),
    ("graphs.0.outputs", [], r"text_encoder in fp32: found the outputs \[\], expected 1"),
    ("graphs.0.outputs.0.shape", ["batch", "tokens"], "'embeddings' has the axes"),
    ("graphs.0.outputs.0.shape", ["batch", "others", 32], "'embeddings' has the axes"),
    ("graphs.3.outputs.0.shape", ["batch", 9, "frames"], r"dit in fp32: 'velocity' has the axes"),
    ("graphs.3.outputs.0.shape", ["batch", 8, "more"], r"dit in fp32: 'velocity' has the axes"),
    ("graphs.6.outputs.0.shape", ["batch", 1, "frames"], r"decoder_3 in fp32: 'audio' has the axes"),
    ("graphs.6.inputs.0.shape", [LARGE] * 100, r"decoder_3 in fp32: 'features_2' has the axes"),
    ("graphs.0.path", "\x1b]0;x\x07", "is used but not listed"),
    ("tools", {str(i): "" for i in range(5000)}, "tools: found 5000"),
    ("format", LARGE, "format 1000"),
    ("format", True, "format True"),
    ("model.name", "\ud800", "half a character"),
    ("model.name", float("nan"), "NaN is not a number"),
    ("model.name", [[[]]], "expected a string"),
]


def _changed(data: Any, where: str, value: object) -> Any:
    *way, last = where.split(".")
    place = data
    for name in way:
        place = place[int(name) if isinstance(place, list) else name]
    place[int(last) if isinstance(place, list) else last] = value
    return data


@pytest.mark.parametrize(("where", "value", "match"), DAMAGES, ids=[f"{where}-{value!r:.20}" for where, value, _ in DAMAGES])
def test_a_hostile_manifest_is_refused_in_one_line(data, bundle, where, value, match):
    (bundle / "manifest.json").write_text(json.dumps(_changed(data, where, value)))
    with pytest.raises(BundleError, match=match) as caught:
        open_bundle(bundle)
    assert len(str(caught.value)) < 500
    assert str(caught.value).isprintable()


TEXTS = {
    "empty": b"",
    "not UTF-8": b"\xff\xfe{}",
    "UTF-16": "{}".encode("utf-16"),
    "cut off": b'{"format": 2, "model": {',
    "deep lists": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "deep and closed": b"[" * 100_000 + b"]" * 100_000,
    "large": b" " * 1_000_001,
    "NaN": b'{"format": NaN}',
    "infinite": b'{"format": 1e999}',
    "digits": b'{"format": ' + b"9" * 5000 + b"}",
    "a list": b"[2]",
    "a number": b"2",
    "null": b"null",
    "zero bytes": b"\0" * 100,
    "an archive": b"PK\x03\x04",
    "a pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_what_is_no_manifest_is_refused_in_one_line(bundle, text):
    (bundle / "manifest.json").write_bytes(text)
    with pytest.raises(BundleError, match=r"manifest\.json") as caught:
        open_bundle(bundle)
    assert len(str(caught.value)) < 500
    assert str(caught.value).isprintable()


def test_control_characters_in_a_message_are_written_out(data):
    with pytest.raises(BundleError) as caught:
        parse_manifest(json.dumps(_changed(data, "model", {"\x1b[2J": 1})))
    assert str(caught.value).isprintable()


def test_graphs_twice(data):
    _refused(data | {"graphs": data["graphs"] * 2}, "a role occurs twice in the same precision")


def test_too_many_files(data):
    file = data["files"][0]
    _refused(data | {"files": [file | {"path": f"{i}"} for i in range(5000)]}, "files: found 5000")
