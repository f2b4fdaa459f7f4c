"""The memory of the machine, and how much of it this process may still take. All sizes are in bytes."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from sao_onnx.runtime import control_groups, elsewhere, kernel_files, usage


def total_memory() -> int | None:
    """Memory of the machine; None where the system does not say."""
    return kernel_files.read_bytes("/proc/meminfo", "MemTotal") or elsewhere.total_memory()


def free_swap() -> int:
    """Swap space that is not used; 0 where the system does not say."""
    return kernel_files.read_bytes("/proc/meminfo", "SwapFree") or elsewhere.free_swap() or 0


def available_memory() -> int | None:
    """Memory that this process can still take without swapping; None where the system does not say.

    The smallest of three: what the system estimates, what the control groups of this process leave, and what the limit on its
    address space leaves.
    """
    estimated = kernel_files.read_bytes("/proc/meminfo", "MemAvailable")
    estimated = elsewhere.available_memory() if estimated is None else estimated
    amounts = (estimated, *_left_in_control_groups(), _left_of_address_space())
    return min((amount for amount in amounts if amount is not None), default=None)


def _left_in_control_groups() -> Iterator[int]:
    """What each control group of this process leaves. The file cache counts as free: the kernel gives it back on demand."""
    for folder, older in control_groups.folders("memory"):
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if older else ("memory.max", "memory.current")
        with contextlib.suppress(ValueError):  # No such file, or "max" for no limit.
            limit, used = (int(kernel_files.read(f"{folder}/{name}")) for name in names)
            statistics = kernel_files.read(f"{folder}/memory.stat")
            cached = re.findall(r"^(?:in)?active_file (\d+)$", statistics, re.MULTILINE)
            yield limit - used + sum(map(int, cached))


def address_space_is_limited() -> bool:
    """Whether this process has a limit on its address space (`ulimit -v`).

    Then threads that load something are dear: the C library reserves 64 MB for what each of them allocates.
    """
    return usage.limit("RLIMIT_AS") is not None


def _left_of_address_space() -> int | None:
    """What a limit on the address space (`ulimit -v`) leaves; None without such a limit."""
    most = usage.limit("RLIMIT_AS")
    used = kernel_files.read_bytes("/proc/self/status", "VmSize")
    return None if most is None or used is None else most - used
