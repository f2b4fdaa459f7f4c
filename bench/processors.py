"""Runs a command as on an x86 processor with fewer instructions, at full speed.

    python -m bench.processors avx2 python -m bench.fidelity
    python -m bench.processors avx2 python -m pytest tests/test_int8.py

Needs Linux, a C compiler, and a processor that can trap the instruction `cpuid` (Intel's since 2012; `cpuid_fault` in
/proc/cpuinfo). `processors.c` explains how it works. The content of /proc/cpuinfo does not change.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")

PROCESSORS = {
    "avx2": "AVX2, as Intel's before 2021 without AVX-512, and AMD's Zen 2 and 3",
    "avx512": "AVX-512 without VNNI, as Skylake servers",
    "avx_vnni": "AVX2 and AVX-VNNI, as Intel's since 2021 without AVX-512",
}
"""The processors that can be simulated, by name, with a description."""


class UnavailableError(Exception):
    """This machine cannot simulate the processor; the message says why."""


def environment(kind: str, folder: Path) -> dict[str, str]:
    """Environment variables with which a program sees another processor.

    Args:
        kind: A key of `PROCESSORS`.
        folder: Folder for the library that is compiled.

    Raises:
        UnavailableError: This machine cannot simulate the processor.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise UnavailableError("this is not Linux on x86-64")
    flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    if "cpuid_fault" not in flags:
        raise UnavailableError("this processor cannot make cpuid trap")
    needed = {"avx512": "avx512bw", "avx_vnni": "avx_vnni"}.get(kind, "avx2")
    if needed not in flags:
        raise UnavailableError(f"this processor has no {needed}")
    compiler = shutil.which("cc")
    if compiler is None:
        raise UnavailableError("there is no C compiler")
    library = folder / "processors.so"
    if not library.exists():
        command = [compiler, "-O1", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise UnavailableError(f"{SOURCE.name} cannot be compiled: {done.stderr.strip()}")
    variables = {"LD_PRELOAD": str(library), "SAO_ONNX_PROCESSOR": kind}
    done = subprocess.run(["true"], env=os.environ | variables, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UnavailableError(done.stderr.strip() or "cpuid cannot be made to trap")
    return variables


def main() -> None:
    """Run the command of the command line."""
    _, kind, *command = sys.argv if len(sys.argv) > 2 else ("", "", "")
    if kind not in PROCESSORS:
        raise SystemExit(f"{__doc__}\nProcessors: {', '.join(PROCESSORS)}")
    with tempfile.TemporaryDirectory() as folder:
        try:
            variables = environment(kind, Path(folder))
        except UnavailableError as error:
            raise SystemExit(f"error: {error}") from error
        raise SystemExit(subprocess.run(command, env=os.environ | variables, check=False).returncode)


if __name__ == "__main__":
    main()
