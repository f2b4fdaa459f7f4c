"""Packages of Debian for any architecture, downloaded and unpacked into a folder. Nothing is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
"""Keys with which `apt-get` checks Debian's packages."""


class UnavailableError(Exception):
    """The emulated machine cannot be built here; the message says why."""


def require_tools() -> None:
    """Check that this system has Debian's tools and keys.

    Raises:
        UnavailableError: `apt-get`, `dpkg` or the keyring is missing.
    """
    for program in ("apt-get", "dpkg"):
        if shutil.which(program) is None:
            raise UnavailableError(f"{program} is not here; the emulated machine is made of Debian's packages")
    if not KEYRING.is_file():
        raise UnavailableError(f"{KEYRING} is not here; Debian's packages could not be checked")


def host_architecture() -> str:
    """Debian's name for the architecture of this system, such as "amd64".

    Raises:
        UnavailableError: `dpkg` fails.
    """
    return _run(["dpkg", "--print-architecture"]).strip()


def unpacked(folder: Path, suite: str, architecture: str, packages: Sequence[str]) -> Path:
    """Unpack packages into a folder of their own, unless they are there already.

    Args:
        folder: Folder for everything that is downloaded and unpacked.
        suite: Code name of a release of Debian.
        architecture: Debian's name for an architecture.
        packages: Names of packages. What they depend on is not added.

    Returns:
        The folder that holds the root of the packages' files.

    Raises:
        UnavailableError: Debian's archive cannot be reached, or a package is not there.
    """
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
    """Address of the archive from which this system takes its own packages."""
    for path in sorted([*Path("/etc/apt").glob("**/*.sources"), *Path("/etc/apt").glob("**/*.list")]):
        if found := re.search(r"^(?:URIs:|deb(?:\s+\[[^]]*\])?)\s*(https?://\S+)", path.read_text("utf-8"), re.MULTILINE):
            return found[1]
    raise UnavailableError("no archive of Debian packages is configured on this machine")


def _run(command: Sequence[str], cwd: Path | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise UnavailableError(f"{' '.join(command[:3])} ... failed: {last}")
    return done.stdout
