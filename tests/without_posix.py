"""A plugin for pytest: this process looks like one of Windows, where modules and calls of POSIX are missing."""

from __future__ import annotations

import importlib

from tests.elsewhere import become

for _name in (
    "faulthandler",
    "hypothesis",
    "pytest",
    "httpx",
    "yaml",
    "PIL.Image",
    "matplotlib.pyplot",
    "packaging.requirements",
):
    try:
        importlib.import_module(_name)
    except ImportError:
        continue

become("win32")
