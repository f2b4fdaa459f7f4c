"""Which instructions ONNX Runtime uses for each form of an 8-bit matmul or convolution, and how many relative to fp32."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from bench.arm.core import PROGRAMS, last_line
from bench.arm.form_graphs import CHANNELS, FRAMES, INPUTS, KERNEL, OUTPUTS, ROWS, write_convolutions, write_matmuls
from bench.common import ROOT

CORES = ("cortex-a72", "cortex-a76", "neoverse-n2", "max")
"""QEMU's names of the cores of a Raspberry Pi 4, of a 5, of a server, and of a core with all features that QEMU knows."""

PROGRAM = PROGRAMS / "operators.py"

MULTIPLICATIONS = (
    "fmla",
    "smlal",
    "smlal2",
    "umlal",
    "umlal2",
    "sdot",
    "udot",
    "usdot",
    "smmla",
    "ummla",
    "usmmla",
    "fmopa",
    "smopa",
)
"""Instructions of which the inner loops of matmuls and convolutions are made."""

UNROLLED = 8
"""An instruction that the emulator translated less often is not part of an inner loop: those are unrolled."""


def report(python: Path) -> Iterator[str]:
    """Measure every form on every core.

    Args:
        python: The interpreter of the emulated machine.

    Yields:
        The lines of the report.
    """
    folder = ROOT / "scratch" / "forms"
    groups = (write_matmuls(folder), write_convolutions(folder))
    times = {core: json.loads(last_line([python, PROGRAM, folder], core)) for core in CORES}
    yield "# 8-bit forms on Arm cores"
    yield ""
    yield (
        f"Matmuls of {ROWS} × {INPUTS} by {INPUTS} × {OUTPUTS}; convolutions of {CHANNELS} channels, {FRAMES} frames, kernel "
        f"{KERNEL}; ONNX Runtime's newest release, one thread, emulated by QEMU. Each cell has the time divided by that of "
        "single precision on the same core, and the multiplication instructions that were used. The ratio follows the number "
        "of instructions; it does not measure a real board. u8s8 means unsigned activations with signed weights."
    )
    yield ""
    yield "| form | " + " | ".join(CORES) + " |"
    yield "|---|" + "---|" * len(CORES)
    for forms in groups:
        single_precision = forms[0]
        for form in forms:
            ratios = {core: times[core][form] / times[core][single_precision] for core in CORES}
            cells = [f"{ratio:.2f} {_instructions(python, core, folder, form)}" for core, ratio in ratios.items()]
            yield f"| {form.replace('_', ' ')} | " + " | ".join(cells) + " |"


def _instructions(python: Path, core: str, folder: Path, form: str) -> str:
    """The multiplication instructions of a form's inner loop, the most frequent first, from the emulator's log."""
    log = ROOT / "scratch" / "translated.log"
    last_line([python, PROGRAM, folder, form], core, QEMU_LOG="in_asm", QEMU_LOG_FILENAME=str(log))
    with log.open(encoding="utf-8", errors="replace") as file:
        # Columns of a line: address, bytes of the instruction, its name, its operands.
        words = (line.split(maxsplit=3)[2:3] for line in file)
        count = Counter(word for found in words for word in found if word in MULTIPLICATIONS)
    log.unlink()
    return ", ".join(word for word, number in count.most_common(2) if number >= UNROLLED)
