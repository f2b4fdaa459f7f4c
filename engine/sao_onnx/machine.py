"""What the machine is: processor, the features that matter to ONNX Runtime, and memory."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import sys
from dataclasses import dataclass
from pathlib import Path

FEATURES = {
    "x86_64": ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8"),
    "aarch64": ("asimd", "asimddp", "fphp", "i8mm", "bf16", "sve", "sme"),
}
"""Processor features that ONNX Runtime's kernels choose by, under the names of the Linux kernel."""

_MACHINES = {"amd64": "x86_64", "x86-64": "x86_64", "arm64": "aarch64"}


@dataclass(frozen=True)
class Machine:
    """A machine as this process sees it.

    Attributes:
        system: Operating system and release.
        architecture: "x86_64", "aarch64", or what the system calls it.
        processor: Its name, as far as the system tells.
        cores: Processors that this process may use.
        features: The ones of `FEATURES` that it has; None where the system does not tell.
        memory: Bytes in all, None if unknown.
        available: Bytes that could be used without swapping, within a container's limit; None if unknown.
    """

    system: str
    architecture: str
    processor: str
    cores: int
    features: tuple[str, ...] | None
    memory: int | None
    available: int | None


def describe_machine() -> Machine:
    """Describe this machine."""
    name = platform.machine().lower()
    architecture = _MACHINES.get(name, name)
    cpuinfo = _read("/proc/cpuinfo")
    return Machine(
        system=f"{platform.system()} {platform.release()}",
        architecture=architecture,
        processor=_processor(cpuinfo),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        features=_features(cpuinfo, architecture),
        memory=_meminfo("MemTotal"),
        available=_available(),
    )


def peak_memory() -> int | None:
    """Largest resident size of this process so far, in bytes; None where the system does not tell."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _processor(cpuinfo: str) -> str:
    for pattern in (r"^model name\s*:\s*(.+)$", r"^Model\s*:\s*(.+)$"):
        if found := re.search(pattern, cpuinfo, re.MULTILINE):
            return found[1].strip()
    model = _read("/proc/device-tree/model").rstrip("\0")
    return model or platform.processor() or "unknown"


def _features(cpuinfo: str, architecture: str) -> tuple[str, ...] | None:
    found = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    if found is None:
        return None
    present = set(found[1].split())
    return tuple(name for name in FEATURES.get(architecture, ()) if name in present)


def _meminfo(field: str) -> int | None:
    found = re.search(rf"^{field}:\s*(\d+) kB$", _read("/proc/meminfo"), re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def _available() -> int | None:
    """What the kernel estimates, or what a container's limit leaves, whichever is less."""
    amounts = [_meminfo("MemAvailable")]
    with contextlib.suppress(ValueError):
        amounts.append(int(_read("/sys/fs/cgroup/memory.max")) - int(_read("/sys/fs/cgroup/memory.current")))
    return min((amount for amount in amounts if amount is not None), default=None)


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
