"""Runs programs on emulated Arm cores."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.common import ROOT, output_of
from bench.emulated_arm.machine import SUITES, build, site_packages

SUITE = SUITES["trixie"]
PROGRAMS = Path(__file__).with_name("programs")
SITE_PACKAGES = site_packages(ROOT / "scratch" / "arm", SUITE)


def emulated_python(*more: str) -> Path:
    """The Python interpreter of the emulated machine, with this project's wheel and the newest versions of what it needs.

    Args:
        *more: Further requirements.
    """
    wheels = ROOT / "scratch" / "wheels"
    output_of([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(wheels), str(ROOT)])
    wheel = max(wheels.glob("*.whl"), key=lambda path: path.stat().st_mtime)
    return build(ROOT / "scratch" / "arm", SUITE, [str(wheel), *more])


def last_line(command: Sequence[str | Path], core: str, **variables: str) -> str:
    """Run a command and return the last line that it prints.

    Args:
        command: The command. Its program is `emulated_python()`, or this system's for comparison.
        core: QEMU's name of the core. It means nothing to programs of this system.
        **variables: Environment variables for the command.

    Raises:
        SystemExit: The command failed; the message has the end of its errors.
    """
    environment = os.environ | {"QEMU_CPU": core} | variables
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"failed on {core}: {done.stderr[-2000:]}")
    return done.stdout.splitlines()[-1]
