"""Writes the manifest of a bundle, and names what is copied into it."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from sao_onnx.bundle.manifest import Manifest
from sao_onnx.bundle.manifest_json import MANIFEST, safe_path


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `manifest.json`, and give all other files its permissions.

    Some libraries write files that only their owner may read.
    """
    path = folder / MANIFEST
    # A folder may have a name that is no text.
    path.write_text(manifest.to_json(), encoding="utf-8", errors="replace")
    for file in manifest.files:
        (folder / file.path).chmod(path.stat().st_mode)


def license_name(path: str, taken: Collection[str]) -> str:
    """The name in the bundle of a licence from a checkpoint: its own, or else one that every system has files of.

    Args:
        path: Of the licence, in the checkpoint.
        taken: Names that there are already, or that differ in case alone.
    """
    name = Path(path).name
    if safe_path(name) and name.casefold() not in {other.casefold() for other in taken}:
        return name
    return f"LICENSE-{len(taken)}"
