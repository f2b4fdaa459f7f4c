"""Which files were found to have the digest that their manifest names, remembered from process to process.

Digests of a bundle at full size take seconds on a small board. So what was found is kept in a small file of the user's, by
where a file is, how large it is, and when it was last changed. A file whose state is another one is read again. Whatever goes
wrong with that small file means only that files are read again.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from pathlib import Path

from sao_onnx.forks import Lock
from sao_onnx.places import user_path
from sao_onnx.reading import read_small
from sao_onnx.writing import write_whole

logger = logging.getLogger(__name__)

KEPT = 1000
"""Files that are remembered: those of dozens of bundles."""

SETTLED = 2_000_000_000
"""Nanoseconds after which a change of a file shows in its time, on every file system."""


class Checked:
    """Files that were found to be right. Safe to use from several threads."""

    def __init__(self) -> None:
        self._right: set[str] = set()
        self._lock = Lock()

    def is_right(self, path: Path, sha256: str) -> bool:
        """Whether a file has a digest. It is read unless it is known from before.

        Raises:
            OSError: The file cannot be read.
        """
        found = path.stat()
        key = _key(path, found, sha256)
        with self._lock:
            if not self._right:
                self._right.update(_recorded())
            if key in self._right:
                return True
        began = time.perf_counter()
        if digest(path) != sha256:
            return False
        logger.debug("%s has the right digest (%.3f s)", path, time.perf_counter() - began)
        # A file that was changed just now could be changed once more without its time telling.
        if abs(time.time_ns() - found.st_mtime_ns) > SETTLED and _key(path, path.stat(), sha256) == key:
            with self._lock:
                self._right.add(key)
                _record(key)
        return True


def digest(path: Path) -> str:
    """SHA-256 digest of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def record_path() -> Path:
    """The file in which is kept what was found. It need not exist.

    Raises:
        FileError: The user has no home folder.
    """
    return user_path("state") / "checked"


def _key(path: Path, state: os.stat_result, sha256: str) -> str:
    facts = (path.resolve(), state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino, sha256)
    return hashlib.sha256(repr(facts).encode("utf-8", "surrogateescape")).hexdigest()


def _recorded() -> list[str]:
    try:
        return read_small(record_path(), 100 * KEPT).decode("ascii").split()
    except (OSError, ValueError) as problem:
        logger.debug("no digests are known from before: %s", problem)
        return []


def _record(key: str) -> None:
    try:
        path = record_path()
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [*_recorded(), key][-KEPT:]
        write_whole(path, "".join(f"{line}\n" for line in lines).encode(), overwrite=True)
    except OSError as problem:  # FileError is one.
        logger.debug("what was found is not remembered: %s", problem)
