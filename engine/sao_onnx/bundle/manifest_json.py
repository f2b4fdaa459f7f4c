"""Reads `manifest.json`, checks that it does not contradict itself, and writes the form of it that identifies a bundle."""

from __future__ import annotations

import json
import unicodedata
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from sao_onnx.bundle.limits import check_limits
from sao_onnx.bundle.manifest import FORMAT, Manifest
from sao_onnx.bundle.schema import SchemaError, read, shown
from sao_onnx.errors import BundleError
from sao_onnx.reading import parse_json

MANIFEST = "manifest.json"
"""Name of the manifest's file in the bundle's folder."""

RESERVED = {"con", "prn", "aux", "nul", *(f"{name}{digit}" for name in ("com", "lpt") for digit in range(10))}
"""Names that mean devices on Windows, whatever follows a dot."""


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
        data = parse_json(text)
    except ValueError as error:
        raise BundleError(f"manifest.json is not valid JSON ({error}); copy or convert the bundle again") from error
    version = data.get("format") if isinstance(data, dict) else None
    if version != FORMAT or isinstance(version, bool):
        newer = isinstance(version, int) and version > FORMAT
        remedy = "upgrade sao-onnx" if newer else "convert the model again"
        raise BundleError(f"manifest.json has format {shown(version)}, this release reads format {FORMAT}: {remedy}")
    try:
        manifest = read(Manifest, data)
        _check(manifest)
    except SchemaError as error:
        raise BundleError(f"manifest.json: {error}") from error
    return manifest


def _check(manifest: Manifest) -> None:
    check_limits(manifest)
    paths = [file.path for file in manifest.files]
    for path in paths:
        if not safe_path(path):
            raise SchemaError("files", f"unsafe path {path[:80]!r}; expected a relative path inside the bundle")
    if len({unicodedata.normalize("NFC", path).casefold() for path in paths}) != len(paths):
        raise SchemaError("files", "a path is listed twice, or two differ in case alone")
    named = [manifest.tokenizer, *(p for graph in manifest.graphs for p in (graph.path, *graph.weights))]
    for path in named:
        if path not in paths:
            raise SchemaError("files", f"{path[:80]!r} is used but not listed")
    if not manifest.precisions:
        raise SchemaError("graphs", f"no precision is complete; each needs {', '.join(manifest.roles)}")


def safe_path(path: str) -> bool:
    """Whether a relative path names a file inside its folder on every operating system."""
    if not path.isprintable() or len(path) > 200 or any(character in path for character in '\\:*?"<>|'):
        return False
    parts = path.split("/")
    return path.casefold() != MANIFEST and not any(
        part.strip(". ") == "" or part[-1] in ". " or part.split(".")[0].strip().casefold() in RESERVED for part in parts
    )
