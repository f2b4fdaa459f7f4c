"""What the machine is: processor, the features that matter to ONNX Runtime, and memory."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

FEATURES = {
    "x86_64": ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8"),
    "aarch64": ("asimd", "asimddp", "fphp", "i8mm", "bf16", "sve", "sme"),
}
"""Processor features that ONNX Runtime's kernels choose by, under the names of the Linux kernel."""

INT8_PRODUCTS = {
    "x86_64": {
        "amx_int8": "tile products",
        "avx512_vnni": "dot products",
        "avx_vnni": "dot products",
    },
    "aarch64": {
        "i8mm": "matrix products",
        "asimddp": "dot products",
        "asimd": "widened products",
    },
}
"""What ONNX Runtime makes 8-bit products of, by the first of these features that a machine has; measured in bench/results.
All are exact. What x86 processors without any of these do is found by trying (`sessions.products_overflow`)."""

CORES = {
    (0x41, 0xD03): "Cortex-A53",
    (0x41, 0xD05): "Cortex-A55",
    (0x41, 0xD07): "Cortex-A57",
    (0x41, 0xD08): "Cortex-A72",
    (0x41, 0xD09): "Cortex-A73",
    (0x41, 0xD0A): "Cortex-A75",
    (0x41, 0xD0B): "Cortex-A76",
    (0x41, 0xD0C): "Neoverse-N1",
    (0x41, 0xD0D): "Cortex-A77",
    (0x41, 0xD40): "Neoverse-V1",
    (0x41, 0xD41): "Cortex-A78",
    (0x41, 0xD44): "Cortex-X1",
    (0x41, 0xD46): "Cortex-A510",
    (0x41, 0xD47): "Cortex-A710",
    (0x41, 0xD48): "Cortex-X2",
    (0x41, 0xD49): "Neoverse-N2",
    (0x41, 0xD4B): "Cortex-A78C",
    (0x41, 0xD4D): "Cortex-A715",
    (0x41, 0xD4E): "Cortex-X3",
    (0x41, 0xD4F): "Neoverse-V2",
    (0x41, 0xD80): "Cortex-A520",
    (0x41, 0xD81): "Cortex-A720",
    (0x41, 0xD82): "Cortex-X4",
    (0x41, 0xD84): "Neoverse-V3",
    (0x41, 0xD85): "Cortex-X925",
    (0x41, 0xD87): "Cortex-A725",
    (0x41, 0xD8E): "Neoverse-N3",
    (0x51, 0x001): "Oryon",
    (0xC0, 0xAC3): "Ampere-1",
}
"""Arm cores by the numbers of their implementer and part, which is all that the Linux kernel tells of them."""

_MACHINES = {"amd64": "x86_64", "x86-64": "x86_64", "arm64": "aarch64"}


@dataclass(frozen=True)
class Machine:
    """A machine as this process sees it.

    Attributes:
        system: Operating system and release.
        architecture: "x86_64", "aarch64", or what the system calls it.
        processor: Its name, as far as the system tells; on Arm the board and its cores.
        cores: Processors that this process may use.
        features: The ones of `FEATURES` that it has; None where the system does not tell.
        memory: Bytes in all, None if unknown.
        available: Bytes that could be used without swapping, within the limits of this process; None if unknown.
        swap: Bytes of free swap.
        used: Bytes that this process has of the memory; 0 if unknown.
    """

    system: str
    architecture: str
    processor: str
    cores: int
    features: tuple[str, ...] | None
    memory: int | None
    available: int | None
    swap: int
    used: int

    @property
    def reachable(self) -> int | None:
        """Bytes that this process has or could have without swapping; None if unknown."""
        return None if self.available is None else self.used + self.available


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
        memory=_kilobytes("/proc/meminfo", "MemTotal"),
        available=_available(),
        swap=_kilobytes("/proc/meminfo", "SwapFree") or 0,
        used=_kilobytes("/proc/self/status", "VmRSS") or 0,
    )


def peak_memory() -> int | None:
    """Largest resident size of this process so far, in bytes; None where the system does not tell."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def int8_products(machine: Machine, overflow: bool) -> str | None:
    """What 8-bit products are made of on a machine, and the feature that decides it; None where that is unknown.

    They are the same numbers everywhere.

    Args:
        machine: This machine.
        overflow: Those of signed weights overflow here, as `sessions.products_overflow` finds.
    """
    if overflow:
        return "widened products of unsigned weights, exact where signed ones would overflow (no VNNI)"
    for feature, products in INT8_PRODUCTS.get(machine.architecture, {}).items():
        if feature in (machine.features or ()):
            return f"{products} ({feature})"
    if machine.architecture == "x86_64" and machine.features is not None:
        return "widened products"
    return None


def _processor(cpuinfo: str) -> str:
    arm = _cores(cpuinfo)
    if not arm and (found := re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)):
        return found[1].strip()
    board = re.search(r"^Model\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    model = board[1].strip() if board else _read("/proc/device-tree/model").rstrip("\0")
    return ", ".join(filter(None, (model, arm))) or platform.processor() or "unknown"


def _cores(cpuinfo: str) -> str:
    """The kinds of cores of an Arm processor, "" for others."""
    numbers = re.findall(r"^CPU implementer\s*:\s*(\S+)$.*?^CPU part\s*:\s*(\S+)$", cpuinfo, re.MULTILINE | re.DOTALL)
    kinds = dict.fromkeys((int(implementer, 16), int(part, 16)) for implementer, part in numbers)
    names = [CORES.get(kind, f"Arm core {kind[1]:#x} of implementer {kind[0]:#x}") for kind in kinds]
    return " and ".join(names)


def _features(cpuinfo: str, architecture: str) -> tuple[str, ...] | None:
    found = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    if found is None:
        return None
    present = set(found[1].split())
    return tuple(name for name in FEATURES.get(architecture, ()) if name in present)


def _kilobytes(path: str, field: str) -> int | None:
    found = re.search(rf"^{field}:\s*(\d+) kB$", _read(path), re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def _available() -> int | None:
    """What the kernel estimates, or what a limit on this process leaves, whichever is less."""
    amounts = (_kilobytes("/proc/meminfo", "MemAvailable"), *_left_in_groups(), _left_of_addresses())
    return min((amount for amount in amounts if amount is not None), default=None)


def _left_in_groups() -> Iterator[int]:
    """Bytes that each control group of this process leaves it; what files are cached in could be given back."""
    for line in _read("/proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            top, limit, usage = PurePosixPath("/sys/fs/cgroup"), "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            top, limit, usage = PurePosixPath("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        group = top / path.lstrip("/")
        # In a container the path may be the one outside; then only the top is there.
        for folder in (group, *(parent for parent in group.parents if parent.is_relative_to(top))):
            with contextlib.suppress(ValueError):
                cached = re.findall(r"^(?:in)?active_file (\d+)$", _read(str(folder / "memory.stat")), re.MULTILINE)
                yield int(_read(str(folder / limit))) - int(_read(str(folder / usage))) + sum(map(int, cached))


def _left_of_addresses() -> int | None:
    """Bytes that a limit on the address space (`ulimit -v`) leaves."""
    if sys.platform == "win32":
        return None
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    used = _kilobytes("/proc/self/status", "VmSize")
    return None if limit == resource.RLIM_INFINITY or used is None else limit - used


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
