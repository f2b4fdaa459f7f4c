"""Writes the manifest of a bundle."""

from __future__ import annotations

from pathlib import Path

from sao_onnx.bundle.manifest import Manifest
from sao_onnx.bundle.manifest_json import MANIFEST


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `manifest.json`, and give all other files its permissions.

    Some libraries write files that only their owner may read.
    """
    path = folder / MANIFEST
    path.write_text(manifest.to_json(), encoding="utf-8")
    for file in manifest.files:
        (folder / file.path).chmod(path.stat().st_mode)
