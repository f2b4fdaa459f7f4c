"""An emulated Arm machine in a folder: Debian's CPython and the aarch64 wheels that a user of a Raspberry Pi would install.

    python -m tests.arm.sandbox FOLDER --suite bookworm REQUIREMENT...
    QEMU_CPU=cortex-a72 FOLDER/python program.py

QEMU runs the programs of another architecture instruction by instruction: it shows what they compute, which instructions they
choose, and what memory they take; never how fast a board is. Needs Debian's `apt-get` and `dpkg`, and a network the first time.
QEMU before 8.1 does not tell ONNX Runtime what the processor can do, hence the one of trixie, whatever this machine runs. A
program cannot start other Arm programs, so that everything happens in one process.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
HOST_SUITE = "trixie"
MANYLINUX = ("2_39", "2_35", "2_34", "2_31", "2_28", "2_27", "2_26", "2_17")
"""Those that a wheel may name, the newest first; what is newer than the suite's own libc is left out."""


class UnavailableError(Exception):
    """The sandbox cannot be built here; the message says why."""


@dataclass(frozen=True)
class Suite:
    """A release of Debian, which 64-bit Raspberry Pi OS of the same name is made of.

    Attributes:
        name: Its code name.
        python: Version of its interpreter.
        libc: Version of its C library.
        packages: The interpreter and the libraries that it and the wheels link with.
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


def build(folder: Path, suite: Suite, requirements: Sequence[str], constraints: Sequence[str] = ()) -> Path:
    """Make the machine, or what is missing of it.

    Args:
        folder: For everything that is downloaded and unpacked; a folder that git ignores.
        suite: What it runs.
        requirements: For pip, among them the path of a wheel of this project.
        constraints: For pip.

    Returns:
        The program to call instead of `python`. The environment variable `QEMU_CPU` names the core.

    Raises:
        UnavailableError: apt-get or dpkg is missing, or Debian's archive out of reach.
        CalledProcessError: pip does not find wheels for the requirements.
    """
    for program in ("apt-get", "dpkg"):
        if shutil.which(program) is None:
            raise UnavailableError(f"{program} is not here; the emulated machine is made of Debian's packages")
    if not KEYRING.is_file():
        raise UnavailableError(f"{KEYRING} is not here; Debian's packages could not be checked")
    folder.mkdir(parents=True, exist_ok=True)
    folder = folder.resolve()
    host = _run(["dpkg", "--print-architecture"]).strip()
    emulator = _unpacked(folder, HOST_SUITE, host, ("qemu-user",))
    system = _unpacked(folder, suite.name, "arm64", suite.packages)
    # Debian's packages count on these links, which its installer makes.
    for name in ("lib", "bin"):
        if not (system / name).exists():
            (system / name).symlink_to(f"usr/{name}")
    site = folder / f"site-{suite.name}"
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


def _unpacked(folder: Path, suite: str, architecture: str, packages: Sequence[str]) -> Path:
    """Packages of a suite and an architecture, unpacked into a folder of their own without being installed."""
    root = folder / f"{suite}-{architecture}"
    if (root / ".complete").is_file():
        return root
    state = folder / f"apt-{suite}-{architecture}"
    (state / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    (state / "sources.list").write_text(f"deb [signed-by={KEYRING}] {_mirror()} {suite} main\n", encoding="utf-8")
    options = {
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Sandbox::User": "root",
        "Acquire::Retries": "2",
        "Dir::Etc::sourcelist": state / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::Lists": state / "lists",
        "Dir::State::status": "/dev/null",
        "Dir::Cache": state,
        "Dir::Cache::pkgcache": "",
        "Dir::Cache::srcpkgcache": "",
    }
    apt = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in options.items())]
    _run([*apt, "update"])
    debs = state / "debs"
    debs.mkdir(exist_ok=True)
    _run([*apt, "download", *packages], cwd=debs)
    for deb in sorted(debs.glob("*.deb")):
        _run(["dpkg", "-x", str(deb), str(root)])
    (root / ".complete").touch()
    return root


def _mirror() -> str:
    """The archive that this machine takes its own packages from."""
    for path in sorted([*Path("/etc/apt").glob("**/*.sources"), *Path("/etc/apt").glob("**/*.list")]):
        if found := re.search(r"^(?:URIs:|deb(?:\s+\[[^]]*\])?)\s*(https?://\S+)", path.read_text("utf-8"), re.MULTILINE):
            return found[1]
    raise UnavailableError("no archive of Debian packages is configured on this machine")


def _install(site: Path, suite: Suite, requirements: Sequence[str], constraints: Sequence[str]) -> None:
    """The wheels that pip would choose on such a machine, unpacked into a folder."""
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
    # Into a fresh folder, because pip does not take away what was there before.
    beside = site.with_suffix(".part")
    shutil.rmtree(beside, ignore_errors=True)
    # Unlike an archive out of reach, wheels that do not exist are a failure of ours.
    subprocess.run([*command, "--target", str(beside), "--constraint", str(listed), *requirements], check=True)
    shutil.rmtree(site, ignore_errors=True)
    beside.rename(site)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("_"))


def _run(command: Sequence[str], cwd: Path | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise UnavailableError(f"{' '.join(command[:3])} ... failed: {last}")
    return done.stdout


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Build an emulated Arm machine.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("requirements", nargs="+")
    parser.add_argument("--suite", choices=SUITES, default="bookworm")
    arguments = parser.parse_args()
    program = build(arguments.folder, SUITES[arguments.suite], arguments.requirements)
    sys.stdout.write(f"{program}\n")


if __name__ == "__main__":
    main()
