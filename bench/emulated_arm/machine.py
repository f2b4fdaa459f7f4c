"""Builds the emulated machine: QEMU, Debian's CPython for Arm, and Python packages for it.

QEMU emulates the instructions of another architecture. It shows what programs compute there, which instructions they use, and
how much memory they need. It does not show how fast a real board is.

QEMU before 8.1 does not tell ONNX Runtime the features of the processor. So QEMU is taken from Debian trixie on every system. A
program on the emulated machine cannot start another program for Arm: everything must happen in one process.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.emulated_arm.debian import host_architecture, require_tools, unpacked

HOST_SUITE = "trixie"
"""Release of Debian from which QEMU is taken."""

MANYLINUX = ("2_39", "2_35", "2_34", "2_31", "2_28", "2_27", "2_26", "2_17")
"""Versions of the C library that the names of wheels may have. Versions newer than the machine's own are left out."""


@dataclass(frozen=True)
class Suite:
    """A release of Debian. The 64-bit Raspberry Pi OS of the same name is made of it.

    Attributes:
        name: Its code name.
        python: Version of its Python interpreter.
        libc: Version of its C library.
        packages: The interpreter, and the libraries that the interpreter and the wheels link with.
    """

    name: str
    python: str
    libc: str
    packages: tuple[str, ...]


_COMMON = (
    "libc6",
    "libgomp1",
    "libstdc++6",
    "libgcc-s1",
    "zlib1g",
    "libexpat1",
    "libffi8",
    "libbz2-1.0",
    "liblzma5",
    "libuuid1",
)
SUITES = {
    "bookworm": Suite(
        "bookworm",
        "3.11",
        "2_36",
        (*_COMMON, "libssl3", "python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib"),
    ),
    "trixie": Suite(
        "trixie",
        "3.13",
        "2_41",
        (*_COMMON, "libssl3t64", "libzstd1", "python3.13-minimal", "libpython3.13-minimal", "libpython3.13-stdlib"),
    ),
}
"""The releases that can be emulated, by name."""


def build(folder: Path, suite: Suite, requirements: Sequence[str], constraints: Sequence[str] = ()) -> Path:
    """Build the emulated machine. What is in the folder already is not downloaded again; Python packages always are.

    Args:
        folder: Folder for everything that is downloaded and unpacked. Git should ignore it.
        suite: The release that the machine runs.
        requirements: Requirements for pip, for example the path of a wheel.
        constraints: Constraints for pip.

    Returns:
        A program that is called like `python`. The environment variable `QEMU_CPU` names the core that it emulates.

    Raises:
        UnavailableError: A tool is missing, or Debian's archive cannot be reached.
        CalledProcessError: pip does not find wheels for the requirements.
    """
    require_tools()
    folder.mkdir(parents=True, exist_ok=True)
    folder = folder.resolve()
    emulator = unpacked(folder, HOST_SUITE, host_architecture(), ("qemu-user",))
    system = unpacked(folder, suite.name, "arm64", suite.packages)
    # Debian's packages need these links. On a real system Debian's installer makes them.
    for name in ("lib", "bin"):
        if not (system / name).exists():
            (system / name).symlink_to(f"usr/{name}")
    site = site_packages(folder, suite)
    _install(site, suite, requirements, constraints)
    runner = folder / f"python-{suite.name}"
    runner.write_text(
        "#!/bin/sh\n"
        f'exec env PYTHONPATH="{site}" PYTHONDONTWRITEBYTECODE=1 "{emulator}/usr/bin/qemu-aarch64" -L "{system}" '
        f'"{system}/usr/bin/python{suite.python}" "$@"\n',
        encoding="utf-8",
    )
    runner.chmod(0o755)
    return runner


def site_packages(folder: Path, suite: Suite) -> Path:
    """The folder into which `build` installs the Python packages of a release."""
    return folder / f"site-{suite.name}"


def _install(site: Path, suite: Suite, requirements: Sequence[str], constraints: Sequence[str]) -> None:
    """Let pip install into a folder the wheels that it would choose on the emulated machine."""
    platforms = [f"manylinux_{version}_aarch64" for version in MANYLINUX if _numbers(suite.libc) >= _numbers(version)]
    python = suite.python
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-warn-conflicts", "--no-compile"]
    command += [
        "--disable-pip-version-check",
        "--root-user-action=ignore",
        "--only-binary=:all:",
        "--implementation=cp",
        f"--python-version={python}",
    ]
    command += [f"--abi=cp{python.replace('.', '')}", "--abi=abi3", "--abi=none"]
    command += [f"--platform={platform}" for platform in platforms]
    listed = site.with_suffix(".constraints")
    listed.write_text("\n".join(constraints), encoding="utf-8")
    # Into a new folder, because pip does not remove what another version left behind.
    fresh = site.with_suffix(".part")
    shutil.rmtree(fresh, ignore_errors=True)
    # Not an UnavailableError: wheels that do not exist are an error of the requirements.
    subprocess.run([*command, "--target", str(fresh), "--constraint", str(listed), *requirements], check=True)
    shutil.rmtree(site, ignore_errors=True)
    fresh.rename(site)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("_"))
