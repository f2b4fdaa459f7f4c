"""Writes bundles: the folder in which one is built, and its manifest."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from sao_onnx.bundle.manifest import Manifest
from sao_onnx.bundle.manifest_json import MANIFEST
from sao_onnx_convert.errors import ConversionError, TargetExistsError


def staging_folder(target: Path) -> Path:
    """The folder beside the target in which this process builds a bundle."""
    return target.absolute().with_name(f".{target.name}.{os.getpid()}.partial")


@contextlib.contextmanager
def staged(target: Path, force: bool) -> Iterator[Path]:
    """A new folder that becomes the target when the block ends, and is removed when the block fails.

    Args:
        target: Where the bundle will be.
        force: Replace an existing bundle. Another folder is never replaced.

    Raises:
        TargetExistsError: The target exists and must not be replaced.
        ConversionError: The system refuses to write it.
    """
    require_free(target, force)
    folder = staging_folder(target)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir()
        yield folder
        if target.exists():
            retired = folder.with_suffix(".retired")
            target.rename(retired)
            folder.rename(target)
            shutil.rmtree(retired)
        else:
            folder.rename(target)
    except OSError as error:
        raise ConversionError(f"{target} cannot be written: {error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def require_free(target: Path, force: bool) -> None:
    """Refuse a target that must not be replaced.

    Raises:
        TargetExistsError: It exists, and is not a bundle or `force` is not set.
    """
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not (target / MANIFEST).is_file():
        raise TargetExistsError(f"{target} exists and is not a bundle; choose another name")
    if not force:
        raise TargetExistsError(f"{target} exists; use --force (force=True) to replace it")


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `manifest.json`, and give all other files its permissions.

    Some libraries write files that only their owner may read.
    """
    path = folder / MANIFEST
    path.write_text(manifest.to_json(), encoding="utf-8")
    for file in manifest.files:
        (folder / file.path).chmod(path.stat().st_mode)
