"""Kinds of processors, by which results are kept apart: the microarchitecture, and the instructions that programs may use.

`zen4-avx512-vnni` is a Zen 4 as it is; `zen4-as-avx2` is one that `bench.processors` limits to AVX2. Where native operators are
used, the name says so at its end.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from sao_onnx.runtime.machine import Machine
from sao_onnx.runtime.processor import INT8_MATMULS

MICROARCHITECTURES = {
    ("AuthenticAMD", 0x17): {"zen2": (*range(0x30, 0x50), *range(0x60, 0x80), 0x90, 0x91, *range(0xA0, 0xB0))},
    ("AuthenticAMD", 0x19): {
        "zen3": (*range(0x10), *range(0x20, 0x60)),
        "zen4": (*range(0x10, 0x20), *range(0x60, 0xB0)),
    },
    ("AuthenticAMD", 0x1A): {"zen5": (*range(0x30), *range(0x40, 0x50), *range(0x60, 0x80))},
    ("GenuineIntel", 6): {
        "skylake-server": (0x55,),
        "ice-lake-server": (0x6A,),
        "sapphire-rapids": (0x8F,),
        "emerald-rapids": (0xCF,),
        "granite-rapids": (0xAD,),
        "gracemont": (0xBE,),
    },
}
"""Models by vendor and family of x86 processors, as the Linux kernel knows them. Others go by the name that they have."""

LIMITED = {"avx2": ("avx2",), "avx512": ("avx2", "avx512f"), "avx_vnni": ("avx2", "avx_vnni")}
"""Which of `sao_onnx.runtime.processor.FEATURES` are left, by the name of a processor that `bench.processors` simulates."""


def limit() -> str | None:
    """Name of the processor that `bench.processors` simulates for this process; None for the one at hand."""
    return os.environ.get("SAO_ONNX_PROCESSOR")


def features(machine: Machine) -> tuple[str, ...]:
    """Features of the processor that programs see here."""
    simulated = limit()
    return LIMITED[simulated] if simulated else machine.features or ()


def kind_of(machine: Machine, operators: bool = False) -> str:
    """Name of this kind of processor, for files: small letters, digits and hyphens.

    Args:
        machine: What it is.
        operators: Whether native operators are used.
    """
    name, simulated, end = microarchitecture() or machine.processor, limit(), ["with operators"] * operators
    if simulated:
        return _slug(" ".join([f"{name} as {simulated}", *end]))
    best = [feature for feature in INT8_MATMULS.get(machine.architecture, {}) if feature in features(machine)]
    return _slug(" ".join([name, *(best or features(machine)[-1:])[:1], *end]))


def microarchitecture(cpuinfo: str | None = None) -> str | None:
    """Name of an x86 processor's microarchitecture; None if it is not in `MICROARCHITECTURES`.

    Args:
        cpuinfo: Content of /proc/cpuinfo, by default this machine's.
    """
    if cpuinfo is None:
        path = Path("/proc/cpuinfo")
        cpuinfo = path.read_text(encoding="utf-8") if path.exists() else ""
    vendor, *numbers = (
        found[1] if (found := re.search(rf"^{key}\s*:\s*(\S+)$", cpuinfo, re.MULTILINE)) else "0"
        for key in ("vendor_id", "cpu family", "model")
    )
    family, model = map(int, numbers)
    known = MICROARCHITECTURES.get((vendor, family), {})
    return next((name for name, models in known.items() if model in models), None)


def _slug(text: str) -> str:
    """Small letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"\((r|tm)\)", "", text.lower())).strip("-")
