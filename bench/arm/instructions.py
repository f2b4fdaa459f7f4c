"""Instructions of each 8-bit graph on emulated Arm cores, with and without native operators: what can be said without a board.

A plugin for QEMU counts them by kind. One run is the difference between two programs, of which one runs the graph and the other
only opens it.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from bench.arm.core import PROGRAMS
from bench.common import ROOT, output_of

_PLAIN = "fp asimd aes pmull sha1 sha2 crc32"
_LATER = f"{_PLAIN} atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp"
CORES = {
    "cortex-a72": f"Features: {_PLAIN}\nCPU implementer: 0x41\nCPU part: 0xd08\n",
    "cortex-a76": f"Features: {_LATER}\nCPU implementer: 0x41\nCPU part: 0xd0b\n",
    "max,sve=off": f"Features: {_LATER} i8mm bf16\nCPU implementer: 0x41\nCPU part: 0xd49\n",
}
"""What a processor's description says for each core, `max` as a Neoverse N2: ONNX Runtime crashes without a part that it knows.
QEMU before 8.1 shows programs the description of the host. Its SVE has vectors of 2048 bits, which no processor has."""

ROLES = ("dit", "decoder_2", "decoder_3")


def report(python: Path, bundle: Path) -> Iterator[str]:
    """Count.

    Args:
        python: The interpreter of the emulated machine, where `sao-onnx-ops` is installed.
        bundle: A bundle in int8.

    Yields:
        The lines of the report.
    """
    plugin = ROOT / "scratch" / "count.so"
    output_of(["cc", "-shared", "-fPIC", "-O2", str(PROGRAMS / "count.c"), "-o", str(plugin)])
    yield "# Instructions of the 8-bit graphs on emulated Arm cores, in millions"
    yield ""
    yield (
        "One thread, full size; `max` has everything that QEMU knows but SVE, i8mm among it. A run of the graph, and opening "
        "it. Instructions are no times: a dot product does more than an addition."
    )
    yield ""
    yield "| core | graph | operators | opening | run | dot products | matrix products | other vectors | memory | other |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for core in CORES:
        for role in ROLES:
            for way in ("off", "on"):
                opening, both = (_counted(python, plugin, core, way, bundle, role, runs) for runs in (0, 1))
                run = {kind: (both[kind] - opening[kind]) / 1e6 for kind in both}
                vectors = run["vector"] + run["table"]
                cells = (run["dot"], run["matrix"], vectors, run["memory"], run["other"])
                yield (
                    f"| {core} | {role} | {'stock' if way == 'off' else 'native'} | {sum(opening.values()) / 1e6:.0f} | "
                    f"{sum(run.values()):.0f} | " + " | ".join(f"{cell:.0f}" for cell in cells) + " |"
                )


def _counted(python: Path, plugin: Path, core: str, way: str, bundle: Path, role: str, runs: int) -> dict[str, int]:
    """Instructions of a program that opens a graph and runs it so many times, by kind."""
    suite = python.name.removeprefix("python-")
    root = python.parent / f"{suite}-arm64"
    (interpreter,) = (root / "usr" / "bin").glob("python3.[0-9][0-9]")
    variables = {"SAO_ONNX_OPS": way, "PYTHONHASHSEED": "0", "PYTHONPATH": f"{python.parent / f'site-{suite}'}:{ROOT}"}
    described = root / "proc" / "cpuinfo"  # QEMU looks for files under its root first.
    described.parent.mkdir(exist_ok=True)
    described.write_text(f"processor: 0\n{CORES[core]}\n", encoding="utf-8")
    # Debian 12's QEMU takes plugins; Debian 13's, which the emulated machine otherwise uses, does not.
    command = ["qemu-aarch64", "-cpu", core, "-plugin", str(plugin), "-L", str(root), str(interpreter)]
    command += [str(PROGRAMS / "graph.py"), str(bundle), role, str(runs)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | variables)
    if done.returncode:
        raise SystemExit(f"failed on {core}: {done.stderr[-2000:]}")
    counted: dict[str, int] = json.loads(done.stderr.splitlines()[-1])
    return counted
