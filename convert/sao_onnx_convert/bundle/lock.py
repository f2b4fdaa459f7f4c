"""A lock that the system lets go of when its process ends, however it ends."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from sao_onnx.locks import lock


@contextlib.contextmanager
def held(path: Path) -> Iterator[bool]:
    """Hold a lock for the length of a `with` block. Its file is there as long as it is held, or until its process was killed.

    Args:
        path: The file.

    Yields:
        Whether it is held. It is not where the file system knows no locks.

    Raises:
        BlockingIOError: It is held by others, or by another thread.
        OSError: The file cannot be made.
    """
    descriptor = _held(path)
    try:
        yield descriptor is not None
    finally:
        if descriptor is None or sys.platform != "win32":
            # While it is held: whoever opened the file before finds that it is no longer there.
            _remove(path)
        if descriptor is not None:
            os.close(descriptor)
            if sys.platform == "win32":
                _remove(path)  # Fails while others have it open.


def _held(path: Path) -> int | None:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        try:
            if not lock(descriptor):
                os.close(descriptor)
                return None
            if sys.platform == "win32" or os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except FileNotFoundError:
            pass
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)  # Whoever held it removed the file in the meantime.


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()
