"""The `sao-onnx` command.

Results go to stdout, everything else to stderr. With `--json` an error is a result as well: {"error": {"type", "message"}}.
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 bad bundle, 130 interrupted.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from sao_onnx.cli.signals import (
    INTERRUPTED,
    end,
    end_at_once,
    end_at_signals,
    end_if_interrupted,
    end_interrupted,
    hear_signals,
)

if TYPE_CHECKING:
    from sao_onnx.cli.commands import app as app


OWN = ("click", "rich", "typer")
"""What the command needs, and an application that brings the library alone may have left out."""

ENDED_AT_ONCE = ("gen", "serve", "mcp")
"""Commands that leave nothing to be done when they return."""


def program() -> None:
    """Entry point of the console script: `main` in a process of its own, where nothing is left to be done after it."""
    try:
        main()
    except SystemExit as ended:
        if sys.argv[1:2] and sys.argv[1] in ENDED_AT_ONCE and isinstance(ended.code, int):
            end_at_once(ended.code)
        raise


def main() -> None:
    """The command, ended by SystemExit or by a signal. Signals are heard before all else is imported, which takes a moment."""
    hear_signals()
    try:
        from sao_onnx.cli.commands import run

        code = run()
        if code == INTERRUPTED:  # typer makes it of an interruption outside of a command.
            end_interrupted()
        end_at_signals()
    except KeyboardInterrupt:
        end_interrupted()
    except ModuleNotFoundError as error:
        if error.name not in OWN:
            raise
        sys.stderr.write(f"error: the command needs {error.name}, which the library does without; pip install {error.name}\n")
        sys.exit(1)
    except Exception:
        end_if_interrupted()
        raise
    end(code)


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name == "app":
            from sao_onnx.cli.commands import app

            return app
        raise AttributeError(f"module 'sao_onnx.cli' has no attribute {name!r}")
