"""One pass of each stage at full size, on this machine and on emulated cores of a Raspberry Pi 4 and 5."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench.arm.core import PROGRAMS, last_line
from bench.common import ROOT, decibels

CORES = ("cortex-a72", "cortex-a76")
PROGRAM = PROGRAMS / "stages.py"


def report(python: Path, bundle: Path) -> Iterator[str]:
    """Run each stage once in int8, and compare the outputs.

    Args:
        python: The interpreter of the emulated machine.
        bundle: A bundle in both precisions.

    Yields:
        The lines of the report.
    """
    outputs = {name: ROOT / "scratch" / f"passes-{name}.npz" for name in ("fp32", "x86", *CORES)}
    last_line([sys.executable, PROGRAM, bundle, "fp32", outputs["fp32"]], "none")
    last_line([sys.executable, PROGRAM, bundle, "int8", outputs["x86"]], "none")
    seconds = {core: json.loads(last_line([python, PROGRAM, bundle, "int8", outputs[core]], core)) for core in CORES}
    arrays = {name: dict(np.load(path)) for name, path in outputs.items()}
    yield "# One pass of each stage at full size, int8, on emulated Arm cores"
    yield ""
    yield (
        "Signal-to-noise ratio against the pass in single precision on x86, and against the pass in int8 on x86. Rounding is "
        "equally accurate on all machines, but not equal: a value that is rounded to another step in an early layer changes "
        "everything that follows. The seconds are those of the emulator, not of a board."
    )
    yield ""
    yield "| | x86, fp32 | " + " | ".join(f"{core}: fp32, int8 | seconds" for core in CORES) + " |"
    yield "|---|---|" + "---|---|" * len(CORES)
    for name, exact in arrays["fp32"].items():
        cells = [f"{decibels(exact, arrays['x86'][name]):.1f} dB"]
        for core in CORES:
            found = arrays[core][name]
            ratios = decibels(exact, found), decibels(arrays["x86"][name], found)
            cells += [f"{ratios[0]:.1f}, {ratios[1]:.1f} dB", f"{seconds[core][name]:.0f}"]
        yield f"| {name} | " + " | ".join(cells) + " |"
