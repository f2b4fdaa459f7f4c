"""The processor: its architecture and name, how many processors there are, and the features that ONNX Runtime uses."""

from __future__ import annotations

import contextlib
import math
import os
import platform
import re
from collections.abc import Container, Iterator

from sao_onnx.errors import RequestError, SaoOnnxWarning
from sao_onnx.runtime import control_groups, elsewhere, kernel_files
from sao_onnx.warn import warn

FEATURES = {
    "x86_64": ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8"),
    "aarch64": ("asimd", "asimddp", "fphp", "i8mm", "bf16", "sve", "sme"),
}
"""Processor features by which ONNX Runtime chooses its kernels, by architecture, under the Linux kernel's names."""

INT8_MATMULS = {
    "x86_64": {
        "amx_int8": "tile matrix multiplication",
        "avx512_vnni": "dot product instructions",
        "avx_vnni": "dot product instructions",
    },
    "aarch64": {
        "i8mm": "matrix multiplication instructions",
        "asimddp": "dot product instructions",
        "asimd": "16-bit multiplication",
    },
}
"""The instructions that ONNX Runtime's 8-bit matmul uses, by architecture and feature; the best feature comes first.
Measured in bench/results. The result of each is exact. An x86 processor with none of these features may overflow; see
`sao_onnx.runtime.int8_matmul`."""

ARM_CORES = {
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
"""Names of Arm cores by implementer and part number. The Linux kernel gives only these two numbers."""

_ARCHITECTURES = {"amd64": "x86_64", "x86-64": "x86_64", "arm64": "aarch64"}


MANY = 1_000_000
"""Threads that nobody has."""


def available_processors() -> int:
    """How many logical processors this process may use, at least 1.

    On Linux this respects the affinity mask that a container or `taskset` sets, and the time that control groups allow: a
    process that may use the time of two and a half processors has three.
    """
    present = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([present, *map(math.ceil, allowed_by_control_groups())]))


def usable_threads(threads: int) -> int:
    """As many threads as are asked for, but no more than `available_processors`: more would wait for each other.

    Args:
        threads: At least 1. A number that is too large is lowered with a warning.

    Raises:
        RequestError: `threads` is less than 1.
    """
    if threads < 1:
        raise RequestError(f"threads is {max(threads, -MANY)}, expected at least 1; leave it out for every processor")
    present = available_processors()
    if threads > present:
        # Python prints no number of thousands of digits.
        warn(f"{min(threads, MANY)} threads are more than the processors that there are; using {present}", SaoOnnxWarning)
    return min(threads, present)


def allowed_by_control_groups() -> Iterator[float]:
    """How many processors' time each control group of this process allows, where it has a limit."""
    for folder, older in control_groups.folders("cpu"):
        if older:
            limit = [kernel_files.read(f"{folder}/cpu.cfs_{name}_us") for name in ("quota", "period")]
        else:
            limit = kernel_files.read(f"{folder}/cpu.max").split()
        with contextlib.suppress(ValueError):  # No such file, or "max" for no limit.
            quota, period = map(int, limit)
            # The older version has -1 for no limit.
            if quota > 0 and period > 0:
                yield quota / period


def architecture() -> str:
    """Name of the architecture: "x86_64", "aarch64", or what the system calls another one."""
    name = platform.machine().lower()
    return _ARCHITECTURES.get(name, name)


def processor_name() -> str:
    """The processor's model name; on Arm the board's name and the names of its cores; "unknown" where neither is known."""
    cpuinfo = kernel_files.read("/proc/cpuinfo")
    cores = _arm_cores(cpuinfo)
    if not cores and (found := re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)):
        return found[1].strip()
    board = re.search(r"^Model\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    model = board[1].strip() if board else kernel_files.read("/proc/device-tree/model").rstrip("\0")
    known = ", ".join(filter(None, (model, cores)))
    return known or elsewhere.processor_name() or platform.processor() or "unknown"


def processor_features() -> tuple[str, ...] | None:
    """Those of `FEATURES` that this processor has, in that order; None where the system does not say."""
    found = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", kernel_files.read("/proc/cpuinfo"), re.MULTILINE)
    if found is not None:
        present: Container[str] | None = found[1].split()
    else:
        present = elsewhere.arm_features() if architecture() == "aarch64" else None
    if present is None:
        return None
    return tuple(name for name in FEATURES.get(architecture(), ()) if name in present)


def _arm_cores(cpuinfo: str) -> str:
    """Names of the kinds of cores of an Arm processor, joined by "and"; "" for other processors."""
    numbers = re.findall(r"^CPU implementer\s*:\s*(\S+)$.*?^CPU part\s*:\s*(\S+)$", cpuinfo, re.MULTILINE | re.DOTALL)
    kinds = dict.fromkeys((int(implementer, 16), int(part, 16)) for implementer, part in numbers)
    names = [ARM_CORES.get(kind, f"Arm core {kind[1]:#x} of implementer {kind[0]:#x}") for kind in kinds]
    return " and ".join(names)
