"""Builds an emulated Arm machine in a folder, with the Python packages that a user of a Raspberry Pi would install.

    python -m bench.emulated_arm FOLDER --suite bookworm REQUIREMENT...
    QEMU_CPU=cortex-a72 FOLDER/python-bookworm program.py

Needs Debian's `apt-get` and `dpkg`, and a network connection.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.emulated_arm.debian import UnavailableError
from bench.emulated_arm.machine import SUITES, build


def main() -> None:
    """Build what the command line says, and print the program to call instead of `python`."""
    parser = argparse.ArgumentParser(
        "python -m bench.emulated_arm", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="folder for everything that is downloaded")
    parser.add_argument("requirements", nargs="+", help="requirements for pip, such as a wheel")
    parser.add_argument("--suite", choices=SUITES, default="bookworm", help="release of Debian")
    arguments = parser.parse_args()
    try:
        print(build(arguments.folder, SUITES[arguments.suite], arguments.requirements))
    except UnavailableError as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
