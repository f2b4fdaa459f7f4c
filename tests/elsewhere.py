"""Runs the command as far as possible as on another system: `python -m tests.elsewhere SYSTEM ARGUMENTS ...`.

What other systems lack cannot be imported, their name is told, no kernel describes the machine in files, and on Windows no file
that is open gets another name or is removed. Libraries of others are loaded before, because they are built for this system.
"""

from __future__ import annotations

import importlib
import importlib.abc
import os
import pkgutil
import re
import signal
import sys
import sysconfig
import types
from pathlib import Path
from typing import Any

POSIX = {"fcntl", "grp", "pty", "pwd", "readline", "resource", "syslog", "termios", "tty"}
"""Modules that Windows lacks."""

LIBRARIES = (
    "asyncio",
    "concurrent.futures",
    "multiprocessing.connection",
    "numpy.random",
    "platformdirs",
    "psutil",
    "rich.progress",
    "soundfile",
    "soxr",
    "starlette.applications",
    "starlette.testclient",
    "subprocess",
    "tempfile",
    "tokenizers",
    "typer",
    "uvicorn.protocols.http.h11_impl",
    "uvicorn.server",
)
"""What is loaded before."""

CALLS = (
    "fork",
    "getuid",
    "geteuid",
    "getpgid",
    "killpg",
    "mkfifo",
    "nice",
    "sched_getaffinity",
    "setsid",
    "statvfs",
    "sysconf",
    "wait4",
)
CONSTANTS = ("O_NONBLOCK", "O_NOFOLLOW", "O_DIRECTORY", "O_CLOEXEC")
SIGNALS = ("SIGHUP", "SIGKILL", "SIGQUIT", "SIGXFSZ")


class _Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name in POSIX:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def _open_files() -> set[str]:
    found = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            found.add(str(Path(f"/proc/self/fd/{number}").readlink()))
        except OSError:
            continue
    return found


def _guard(name: str) -> None:
    """Refuse what Windows refuses: to move, replace or remove a file that is open."""
    call = getattr(os, name)

    def guarded(*paths: Any, **options: Any) -> Any:
        # `link` leaves its source alone, and on Windows too an open file may get a second name.
        touched = paths[1:2] if name == "link" else paths
        if {os.path.realpath(path) for path in touched if isinstance(path, (str, os.PathLike))} & _open_files():
            raise PermissionError(13, "The process cannot access the file because it is being used by another process")
        return call(*paths, **options)

    setattr(os, name, guarded)


def become(system: str) -> None:
    """Make this process look like one of another system."""
    for library in LIBRARIES:
        importlib.import_module(library)
    sysconfig.get_config_vars()  # Of the file for this system.
    # It is loaded where it is used, in the one place that may.
    importlib.import_module("sao_onnx.runtime.onnx_runtime")
    for name in [name for name in sys.modules if name.split(".")[0] == "sao_onnx" and name != "sao_onnx.runtime.onnx_runtime"]:
        del sys.modules[name]
    if system == "win32":
        for name in POSIX & sys.modules.keys():
            del sys.modules[name]
        sys.meta_path.insert(0, _Missing())
        for holder, names in ((os, (*CALLS, *CONSTANTS)), (signal, SIGNALS)):
            for name in names:
                if hasattr(holder, name):
                    delattr(holder, name)
        for name in ("rename", "replace", "unlink", "remove", "link"):
            _guard(name)
        console = types.ModuleType("msvcrt")
        console.LK_LOCK, console.LK_NBLCK = 1, 2  # type: ignore[attr-defined]
        console.locking = lambda descriptor, mode, count: None  # type: ignore[attr-defined]
        registry = types.ModuleType("winreg")
        registry.HKEY_LOCAL_MACHINE = 0  # type: ignore[attr-defined]

        def nothing(*_: object) -> None:
            raise FileNotFoundError(2, "The system cannot find the file specified")

        registry.OpenKey = nothing  # type: ignore[attr-defined]
        sys.modules |= {"msvcrt": console, "winreg": registry}
    sys.platform = system
    kernel_files = importlib.import_module("sao_onnx.runtime.kernel_files")
    kernel_files.read = lambda path: ""  # type: ignore[attr-defined]


NOT_PLAYED = re.compile(r"__main__$|^sao_onnx\.(?:pyinstaller\.hook|mcp\.server)")
"""Modules whose libraries, PyInstaller and the SDK of MCP, import code of the real system."""


def import_everything() -> None:
    """Import every module of the engine that can be."""
    import sao_onnx

    for module in pkgutil.walk_packages(sao_onnx.__path__, "sao_onnx."):
        if not NOT_PLAYED.search(module.name):
            importlib.import_module(module.name)


def main() -> None:
    """Import everything, and run the command with the arguments that are left."""
    system = sys.argv.pop(1)
    become(system)
    import_everything()
    from sao_onnx.cli import main as command

    sys.argv[0] = str(Path("sao-onnx"))
    command()


if __name__ == "__main__":
    main()
