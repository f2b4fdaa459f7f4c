"""Runs a command as on an x86 processor with fewer instructions, at full speed.

    python -m bench.processors avx2 python -m bench.fidelity
    python -m bench.processors avx2 python -m pytest tests/test_int8.py

Needs Linux on x86-64 and a C compiler. Where the processor cannot trap the instruction `cpuid` (Intel's since 2012 can;
`cpuid_fault` in /proc/cpuinfo), it also needs glibc and binutils, and each file of machine code is searched once.
`processors.c` explains how it works. The content of /proc/cpuinfo does not change.
"""

from __future__ import annotations

import os
import platform
import shlex
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


def cpuid_traps() -> bool:
    """Whether this processor can make `cpuid` trap."""
    return "cpuid_fault" in flags()


def flags() -> set[str]:
    """Features of this processor under the names of the Linux kernel, whatever is hidden."""
    return set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())


def environment(kind: str, folder: Path) -> dict[str, str]:
    """Environment variables with which a program sees another processor.

    Args:
        kind: A key of `PROCESSORS`.
        folder: Folder for the library that is compiled, and for what it finds in other files.

    Raises:
        UnavailableError: This machine cannot simulate the processor.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise UnavailableError("this is not Linux on x86-64")
    needed = {"avx512": "avx512bw", "avx_vnni": "avx_vnni"}.get(kind, "avx2")
    if needed not in flags():
        raise UnavailableError(f"this processor has no {needed}")
    library = folder.resolve() / "processors.so"
    if not library.exists():
        command = [_program("cc", "C compiler"), "-O1", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise UnavailableError(f"{SOURCE.name} cannot be compiled: {done.stderr.strip()}")
    variables = {"LD_PRELOAD": str(library), "SAO_ONNX_PROCESSOR": kind}
    if not cpuid_traps():
        _write_finder(folder)
        # Bound at once, calls between libraries go around the auditor, and are as fast as without one.
        variables |= {"LD_AUDIT": str(library), "LD_BIND_NOW": "1", "SAO_ONNX_PROCESSOR_FOLDER": str(library.parent)}
    done = subprocess.run(["true"], env=os.environ | variables, capture_output=True, text=True, check=False)
    if done.returncode or done.stderr:
        raise UnavailableError(done.stderr.strip() or "cpuid cannot be made to trap")
    return variables


def _program(name: str, description: str) -> str:
    """Path of a program.

    Raises:
        UnavailableError: There is none.
    """
    path = shutil.which(name)
    if path is None:
        raise UnavailableError(f"there is no {description}")
    return path


def _write_finder(folder: Path) -> None:
    """Write the program `find`: it lists the `cpuid` instructions of a file, and needs no environment."""
    command = [sys.executable, "-I", "-S", str(SOURCE.with_name("cpuid.py")), _program("objdump", "objdump (binutils)")]
    finder = folder / "find"
    finder.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n', encoding="utf-8")
    finder.chmod(0o755)


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
