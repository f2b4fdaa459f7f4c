"""Locks on open files, which the system lets go of when their process ends, however it ends. The only place that takes them."""

from __future__ import annotations

import sys

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


def lock(descriptor: int, *, wait: bool = False) -> bool:
    """Lock an open file for this process alone, until it is closed.

    On Windows the first byte is locked, which others then cannot write, and nothing is waited for longer than ten seconds.

    Args:
        descriptor: Of a file that is open for writing.
        wait: Until others have let go of it.

    Returns:
        Whether it is locked. It is not where the file system knows no locks.

    Raises:
        BlockingIOError: It is locked by others, and is not waited for.
    """
    if sys.platform == "win32":
        try:
            msvcrt.locking(descriptor, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
        except OSError as error:
            raise BlockingIOError(error.errno, error.strerror) from error
    else:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise
        except OSError:
            return False
    return True
