"""The memory that this process uses, in bytes."""

from __future__ import annotations

import ctypes
import sys

from sao_onnx.runtime import kernel_files


def resident_memory() -> int:
    """Resident memory of this process now; 0 where the system does not say."""
    return kernel_files.read_bytes("/proc/self/status", "VmRSS") or 0


def peak_memory() -> int | None:
    """Largest resident memory of this process so far; None where the system does not say."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def return_freed_memory() -> None:
    """Let the C library give freed memory back to the system, where it has a call for that (glibc's).

    It keeps freed blocks of up to 32 MB otherwise. After the DiT of the released model that is nearly all that the DiT took,
    and the next stage would come on top.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
