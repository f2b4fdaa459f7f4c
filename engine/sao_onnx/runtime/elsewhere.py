"""The machine where no kernel describes it in files, as on Windows and macOS: its memory, by psutil, and its processor.

On Linux nothing of this is used, and psutil is not installed. All sizes are in bytes.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Callable, Mapping
from typing import Any

NEEDED = sys.platform != "linux"

APPLE: Mapping[str, str] = {
    "asimd": "hw.optional.AdvSIMD",
    "asimddp": "hw.optional.arm.FEAT_DotProd",
    "fphp": "hw.optional.arm.FEAT_FP16",
    "i8mm": "hw.optional.arm.FEAT_I8MM",
    "bf16": "hw.optional.arm.FEAT_BF16",
    "sme": "hw.optional.arm.FEAT_SME",
}
"""Features of Arm processors under the names of the Linux kernel, and under those of macOS (`sysctl hw.optional`)."""

WINDOWS: Mapping[str, int] = {"asimd": 19, "asimddp": 43, "fphp": 67, "i8mm": 66, "bf16": 68, "sve": 46, "sme": 70}
"""The same for Windows: numbers of `IsProcessorFeaturePresent`, from winnt.h."""


def total_memory() -> int | None:
    """Memory of the machine; None if unknown."""
    return _of_psutil(lambda psutil: psutil.virtual_memory().total)


def available_memory() -> int | None:
    """Memory that can be had without swapping; None if unknown."""
    return _of_psutil(lambda psutil: psutil.virtual_memory().available)


def free_swap() -> int | None:
    """Swap space that is not used; None if unknown."""
    return _of_psutil(lambda psutil: psutil.swap_memory().free)


def resident_memory() -> int | None:
    """Resident memory of this process; None if unknown."""
    return _of_psutil(lambda psutil: psutil.Process().memory_info().rss)


def largest_resident() -> int | None:
    """The largest resident memory of this process so far, which psutil knows on Windows; None if unknown."""
    return _of_psutil(lambda psutil: getattr(psutil.Process().memory_info(), "peak_wset", None))


def _of_psutil(figure: Callable[[Any], int | None]) -> int | None:
    """A figure of psutil's; None on Linux, where it is not installed, and where the system does not let it look."""
    if not NEEDED:
        return None
    try:
        import psutil
    except ImportError:
        return None
    try:
        found = figure(psutil)
    except (psutil.Error, OSError, RuntimeError):
        return None
    return None if found is None else int(found)


def arm_features() -> frozenset[str] | None:
    """Features of an Arm processor under the Linux kernel's names; None if unknown."""
    if not NEEDED:
        return None
    if sys.platform == "win32":
        present = ctypes.windll.kernel32.IsProcessorFeaturePresent
        return frozenset(name for name, number in WINDOWS.items() if present(number))
    return frozenset(name for name, key in APPLE.items() if _sysctl(key) not in (b"", bytes(4))) if _is_apple() else None


def processor_name() -> str:
    """The processor's name; "" if unknown."""
    if sys.platform == "win32":
        import winreg

        with contextlib.suppress(OSError), winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, _PROCESSOR) as key:
            return str(winreg.QueryValueEx(key, "ProcessorNameString")[0]).strip()
        return ""
    return _sysctl("machdep.cpu.brand_string").rstrip(b"\0").decode("utf-8", "replace").strip() if _is_apple() else ""


_PROCESSOR = r"HARDWARE\DESCRIPTION\System\CentralProcessor\0"


def _is_apple() -> bool:
    return sys.platform == "darwin"


def _sysctl(name: str) -> bytes:
    """A value that the kernel of macOS knows by a name; b"" where it knows none."""
    call = getattr(ctypes.CDLL(None), "sysctlbyname", None)
    if call is None:
        return b""
    value, size = ctypes.create_string_buffer(256), ctypes.c_size_t(256)
    failed = call(name.encode(), value, ctypes.byref(size), None, ctypes.c_size_t(0))
    return b"" if failed else value.raw[: size.value]
