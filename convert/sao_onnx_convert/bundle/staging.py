"""The folder in which a bundle is built, and how it takes its place.

It is built in a hidden folder beside its target, `.NAME.PID.partial`, while the file `.NAME.lock` is locked. A process that is
killed leaves both; the lock is free then, and whoever holds it next removes what was left. A bundle that is replaced is renamed
to `.NAME.retired` first, because no system exchanges folders everywhere. Between the two renamings `open_bundle` waits for the
new one; if the process is killed just there, the next conversion puts the old one back.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from sao_onnx.bundle.bundle import is_folder, retired_folder
from sao_onnx.bundle.manifest_json import MANIFEST
from sao_onnx.errors import SaoOnnxError
from sao_onnx_convert.bundle.lock import held
from sao_onnx_convert.errors import ConversionError, TargetExistsError

_renaming = threading.Lock()
"""Held while a bundle takes its place, and for ever once this process has given up."""

_at_work: set[Path] = set()
"""Targets that this process builds, without links."""


def staging_folder(target: Path) -> Path:
    """The folder beside the target, or beside what it is a link to, in which this process builds a bundle."""
    place = target.resolve()
    return place.parent / f".{place.name}.{os.getpid()}.partial"


@contextlib.contextmanager
def staged(target: Path, force: bool) -> Iterator[Path]:
    """A new folder that becomes the target when the block ends, and is removed when the block fails.

    Args:
        target: Where the bundle will be. If it is a link, what it points to is replaced.
        force: Replace an existing bundle. Another folder is never replaced.

    Raises:
        TargetExistsError: The target exists and must not be replaced.
        ConversionError: The system refuses to write it, or another conversion is writing it.
    """
    with _alone(target) as place:
        require_free(target, force)
        folder = staging_folder(target)
        _at_work.add(place)
        try:
            folder.mkdir()
            yield folder
            with _renaming:
                _take_place(folder, place)
            _remove(retired_folder(place))
        finally:
            _remove(folder)
            _at_work.discard(place)


def remove_leftovers(target: Path) -> None:
    """Remove what a conversion to this target left when it was killed.

    Raises:
        ConversionError: The target cannot be written, or another conversion is writing it.
    """
    place = _place(target)
    if is_folder(place.parent):
        with _alone(target):
            return
    if in_the_way := [parent for parent in place.parents if parent.exists() and not is_folder(parent)]:
        raise ConversionError(f"{target} cannot be written: {in_the_way[0]} is not a folder")


def abandon(target: Path) -> None:
    """Remove what this process has built so far of a bundle, before it ends at once.

    A thread may still be writing. The bundle does not take its place any more, or has just done so.
    """
    _renaming.acquire()  # For ever.
    if not _at_work:
        return  # Perhaps not even the name can be used.
    if (place := target.expanduser().resolve()) in _at_work:
        _tidy(place)
        with contextlib.suppress(OSError):
            _lock_file(place).unlink()


def require_free(target: Path, force: bool) -> None:
    """Refuse a target that must not be replaced.

    Raises:
        TargetExistsError: It exists, and is not a bundle or `force` is not set.
        ConversionError: It cannot be looked at.
    """
    try:
        if not target.exists() or (target.is_dir() and not any(target.iterdir())):
            return
        bundle = (target / MANIFEST).is_file()
    except OSError as error:
        raise ConversionError(f"{target} cannot be written: {error}") from error
    if not bundle:
        raise TargetExistsError(f"{target} exists and is not a bundle; choose another name")
    if not force:
        raise TargetExistsError(f"{target} exists; use --force (force=True) to replace it")


@contextlib.contextmanager
def _alone(target: Path) -> Iterator[Path]:
    """While nobody else writes the target, whose place without links is yielded. What others left is removed."""
    place = _place(target)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with held(_lock_file(place)) as alone:
            if alone:
                _tidy(place)
            yield place
    except SaoOnnxError:
        raise
    except BlockingIOError as error:
        raise ConversionError(f"another conversion is writing {target}; wait for its end, or choose another name") from error
    except OSError as error:
        raise ConversionError(f"{target} cannot be written: {error}") from error


def _place(target: Path) -> Path:
    """Where a target is, without links."""
    try:
        return target.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # Links in a circle; a zero byte in the name.
        raise ConversionError(f"{target} cannot be written: {error}") from error


def _lock_file(place: Path) -> Path:
    return place.parent / f".{place.name}.lock"


def _tidy(place: Path) -> None:
    """Remove what conversions to this place have left. None of them may be running."""
    ours = re.compile(re.escape(f".{place.name}.") + r"\d+\.partial")
    for path in place.parent.iterdir():
        if ours.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
            _remove(path)
    retired = retired_folder(place)
    if retired.is_dir() and not place.exists():
        retired.rename(place)
    _remove(retired)


def _take_place(folder: Path, place: Path) -> None:
    retired = retired_folder(place)
    try:
        if place.exists():
            place.rename(retired)
        folder.rename(place)
    finally:
        if retired.exists() and not place.exists():
            retired.rename(place)


def _remove(folder: Path) -> None:
    """Remove a folder that a thread may still be writing to."""
    for _ in range(5):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.05)
