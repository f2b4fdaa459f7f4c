"""Reads `manifest.json`, checks that it does not contradict itself, and writes the form of it that identifies a bundle."""

from __future__ import annotations

import json
from dataclasses import MISSING, fields, is_dataclass
from pathlib import PurePosixPath
from typing import Any

from sao_onnx.bundle.manifest import DECODER_ROLES, FORMAT, Manifest, SegmentTiling
from sao_onnx.bundle.schema import SchemaError, read
from sao_onnx.errors import BundleError


def canonical_json(manifest: Manifest) -> str:
    """The text of `manifest.json` without the fields that have their default value, or that follow from others.

    Manifests with the same meaning have the same text. A field that a later release adds with a default value does not change
    the text of bundles that were written before.
    """
    return json.dumps(_without_defaults(manifest), indent=1, ensure_ascii=False) + "\n"


def _without_defaults(value: Any) -> Any:
    """A dataclass, and those inside it, as dictionaries of the fields that identify it."""
    if isinstance(value, tuple):
        return [_without_defaults(item) for item in value]
    if not is_dataclass(value):
        return value
    kept = {}
    for field in fields(value):
        default = field.default if field.default_factory is MISSING else field.default_factory()
        if (found := getattr(value, field.name)) != default and field.metadata.get("identity", True):
            kept[field.name] = _without_defaults(found)
    return kept


def parse_manifest(text: str) -> Manifest:
    """Read the text of `manifest.json`.

    Raises:
        BundleError: The text is not JSON, is of another format version, lacks a field, has an unknown field or an unsafe path,
            or contradicts itself.
    """
    try:
        data = json.loads(text)
    except ValueError as error:
        raise BundleError(f"manifest.json is not valid JSON ({error}); convert the model again") from error
    version = data.get("format") if isinstance(data, dict) else None
    if version != FORMAT or isinstance(version, bool):
        newer = isinstance(version, int) and version > FORMAT
        remedy = "upgrade sao-onnx" if newer else "convert the model again"
        raise BundleError(f"manifest.json has format {version!r}, this release reads format {FORMAT}: {remedy}")
    try:
        manifest = read(Manifest, data)
        _check(manifest)
    except SchemaError as error:
        raise BundleError(f"manifest.json: {error}") from error
    return manifest


def _check(manifest: Manifest) -> None:
    paths = [file.path for file in manifest.files]
    for path in paths:
        if not safe_path(path):
            raise SchemaError("files", f"unsafe path {path!r}; expected a relative path inside the bundle")
    if len(set(paths)) != len(paths):
        raise SchemaError("files", "a path is listed twice")
    named = [manifest.tokenizer, *(p for graph in manifest.graphs for p in (graph.path, *graph.weights))]
    for path in named:
        if path not in paths:
            raise SchemaError("files", f"{path!r} is used but not listed")
    _check_sizes(manifest)
    _check_decoder(manifest)
    known = {manifest.conditioning.prompt.id, *(number.id for number in manifest.conditioning.numbers)}
    for id in (*manifest.conditioning.cross_attention, *manifest.conditioning.global_condition):
        if id not in known:
            raise SchemaError("conditioning", f"{id!r} is not a conditioner of this model ({', '.join(sorted(known))})")
    if not manifest.precisions:
        raise SchemaError("graphs", f"no precision is complete; each needs {', '.join(manifest.roles)}")


def _check_sizes(manifest: Manifest) -> None:
    margin = manifest.latents.margin
    if margin is not None and margin < 0:
        raise SchemaError("latents.margin", f"found {margin}, expected at least 0")
    for name, value in (
        ("audio.sample_rate", manifest.audio.sample_rate),
        ("audio.channels", manifest.audio.channels),
        ("audio.window", manifest.audio.window),
        ("latents.channels", manifest.latents.channels),
        ("latents.ratio", manifest.latents.ratio),
        ("conditioning.width", manifest.conditioning.width),
        ("conditioning.prompt.max_length", manifest.conditioning.prompt.max_length),
        ("sampling.steps", manifest.sampling.steps),
    ):
        if value < 1:
            raise SchemaError(name, f"found {value}, expected at least 1")


def _check_decoder(manifest: Manifest) -> None:
    segments = manifest.decoder
    if not 2 <= len(segments) <= len(DECODER_ROLES):
        raise SchemaError("decoder", f"found {len(segments)} segments, expected 2 or {len(DECODER_ROLES)}")
    if segments[0] != SegmentTiling(rate=1, context=0, tile=0):
        raise SchemaError("decoder[0]", "the first segment must have rate 1, context 0 and tile 0")
    rates = [*(segment.rate for segment in segments), manifest.latents.ratio]
    for i, segment in enumerate(segments[1:], start=1):
        if segment.rate < 1 or rates[i + 1] % segment.rate or segment.context < 0 or segment.tile < 1:
            raise SchemaError(f"decoder[{i}]", "rate must divide the next one, context must be 0 or more and tile at least 1")


def safe_path(path: str) -> bool:
    """Whether a relative path stays inside its folder on every operating system."""
    parts = PurePosixPath(path).parts
    return bool(parts) and not path.startswith("/") and "\\" not in path and ":" not in path and ".." not in parts
