"""What PyInstaller has to know of the package; it finds this folder by the entry point `hook-dirs` of the wheel."""

from __future__ import annotations

from pathlib import Path


def hook_dirs() -> list[str]:
    """The folders with hooks for PyInstaller."""
    return [str(Path(__file__).parent)]
