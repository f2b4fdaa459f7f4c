"""The memory that this process uses, in bytes."""

from __future__ import annotations

import ctypes
import sys

from sao_onnx.runtime import elsewhere, kernel_files, usage


def resident_memory() -> int:
    """Resident memory of this process now; 0 where the system does not say."""
    return kernel_files.read_bytes("/proc/self/status", "VmRSS") or elsewhere.resident_memory() or 0


def peak_memory() -> int | None:
    """Largest resident memory of this process so far; None where the system does not say."""
    found = usage.largest_resident()
    return elsewhere.largest_resident() if found is None else found


def return_freed_memory() -> None:
    """Let the C library give freed memory back to the system, where it has a call for that (glibc's).

    It keeps freed blocks of up to 32 MB otherwise. After the DiT of the released model that is nearly all that the DiT took,
    and the next stage would come on top.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
