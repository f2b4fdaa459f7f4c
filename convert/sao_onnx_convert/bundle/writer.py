"""Writes the manifest of a bundle, and names what is copied into it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from sao_onnx.bundle.manifest import Manifest
from sao_onnx.bundle.manifest_json import MANIFEST, safe_path
from sao_onnx.bundle.prompts import LARGEST, PROMPTS, parse_prompts
from sao_onnx.errors import FileError
from sao_onnx.reading import read_small
from sao_onnx_convert.source.source import Source


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


def copy_prompts(source: Source, folder: Path, note: Callable[[str], None]) -> bool:
    """Copy the prompts that a checkpoint brings, from beside it or from its top folder.

    Args:
        source: The checkpoint.
        folder: The bundle.
        note: Gets a line where there are prompts that cannot be used.

    Returns:
        Whether there are any.
    """
    name = next((name for name in (source.base + PROMPTS, PROMPTS) if name in source.names), None)
    if name is None:
        return False
    try:
        data = read_small(source.fetch([name]) / name, LARGEST)
        parse_prompts(data.decode("utf-8-sig"))
    except (FileError, ValueError) as error:
        note(f"{name} is left out: {error}")
        return False
    (folder / PROMPTS).write_bytes(data)
    return True
