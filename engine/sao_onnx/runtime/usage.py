"""What the system lets this process have, and how much memory it took: where the system tells as POSIX has it."""

from __future__ import annotations

import sys
from typing import Literal


def limit(name: Literal["RLIMIT_AS", "RLIMIT_NOFILE"]) -> int | None:
    """A limit on this process: bytes of its address space, or files that it may open; None where there is none."""
    if sys.platform == "win32":
        return None
    import resource

    soft, _ = resource.getrlimit(getattr(resource, name))
    return None if soft == resource.RLIM_INFINITY else int(soft)


def largest_resident() -> int | None:
    """The largest resident memory of this process so far, in bytes; None on Windows."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
