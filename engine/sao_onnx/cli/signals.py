"""Ctrl-C and its relatives end the command at once and leave no half of a file. Nothing is imported here that takes time."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

INTERRUPTED = 130

PATIENCE = 2.0
"""Seconds after a signal in which others are not heard, so that what was begun can be cleared away."""

_heard: list[float] = []
"""When the first signal was heard."""

NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
"""Those that a system has: a closed terminal is SIGHUP, and Ctrl-Break on Windows SIGBREAK."""


def hear_signals() -> None:
    """Let SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt, once. If that does not end the process, the next one does."""

    def heard(number: int, frame: FrameType | None) -> None:
        if not _heard:
            _heard.append(time.monotonic())
            raise KeyboardInterrupt
        if time.monotonic() > _heard[0] + PATIENCE:
            end_interrupted()

    _handle(heard)


def end_if_interrupted() -> None:
    """End the process if a signal has been heard: an error that comes after it comes of it, as from a library half imported."""
    if _heard:
        end_interrupted()


def end_at_signals() -> None:
    """Let SIGINT, SIGTERM and SIGHUP end the process at once: for its last moments, in which Python would show tracebacks."""
    _handle(lambda number, frame: end_interrupted())


def end_interrupted() -> NoReturn:
    """End the process at once, as one that was interrupted."""
    end_now(INTERRUPTED, "interrupted")


def end_now(code: int, reason: str) -> NoReturn:
    """End the process at once. A graph may still run in another thread, which cannot be stopped, so nothing is waited for.

    Args:
        code: That it returns.
        reason: A line for stderr.
    """
    # Whoever writes files has imported the module.
    writing = sys.modules.get("sao_onnx.writing")
    with contextlib.suppress(Exception):  # A closed terminal; a stream that was interrupted while it wrote.
        if writing is not None:
            writing.remove_unfinished()
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    with contextlib.suppress(Exception):
        sys.stderr.write(f"{reason}\n")
        sys.stderr.flush()
    os._exit(code)


def end_done(code: int) -> NoReturn:
    """End the process with its work done: what was registered for the end is run, and nothing is taken apart.

    Taking apart Python, NumPy and ONNX Runtime takes a tenth of a second, to free memory that the system gets back anyway. No
    thread is waited for.

    Args:
        code: That it returns.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # Closed, or nobody reads it any longer.
            stream.flush()
    os._exit(code)


def _handle(handler: Callable[[int, FrameType | None], None]) -> None:
    """Handle the signals, but for those that the parent process has set to be ignored.

    SIGHUP under `nohup`, SIGINT in the background of a script.
    """
    for name in NAMES:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)
