"""Files in which the Linux kernel describes the machine and this process. On other systems they are not there."""

from __future__ import annotations

import re
from pathlib import Path


def read(path: str) -> str:
    """Text of a file such as `/proc/cpuinfo`; "" where it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def read_bytes(path: str, field: str) -> int | None:
    """A size in bytes from a file of lines such as `MemTotal:  8000 kB`; None where the field is not there.

    Args:
        path: The file.
        field: Name of the field, without the colon.
    """
    found = re.search(rf"^{field}:\s*(\d+) kB$", read(path), re.MULTILINE)
    return int(found[1]) * 1024 if found else None
