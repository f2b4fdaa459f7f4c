"""Ctrl-C and its relatives end the command at once and leave no half of a file. Nothing is imported here that takes time."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from types import FrameType
from typing import NoReturn

INTERRUPTED = 130

PATIENCE = 2.0
"""Seconds after a signal in which others are not heard, so that what was begun can be cleared away."""

SERVER = "serve"
"""The command that has done its work when it is told to end, even while it starts."""

_heard: list[float] = []
"""When the first signal was heard."""

_left: list[threading.Thread] = []
"""Threads that nobody waits for any longer, and in which a graph may still run."""

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


def leave(threads: Iterable[threading.Thread]) -> None:
    """Wait no longer for threads in which a graph may run; the process must not end in order beneath them."""
    _left.extend(threads)


def end(code: int) -> NoReturn:
    """End the process with its work done: in order, or at once where a graph still runs, which would abort Python."""
    if any(thread.is_alive() for thread in _left):
        end_now(code)
    sys.exit(code)


def end_at_once(code: int) -> NoReturn:
    """End the process with its work done: what was registered for the end is run, and nothing is taken apart.

    Taking apart Python, NumPy and ONNX Runtime takes a tenth of a second, to free memory that the system gets back anyway.
    """
    atexit._run_exitfuncs()
    end_now(code)


def end_interrupted() -> NoReturn:
    """End the process at once, as one that was interrupted; a server ends with 0, as it does later."""
    # What the command is may not be known yet in any other way.
    end_now(0 if sys.argv[1:2] == [SERVER] else INTERRUPTED, "interrupted")


def end_now(code: int, reason: str = "") -> NoReturn:
    """End the process at once. A graph may still run in another thread, which cannot be stopped, so nothing is waited for.

    Args:
        code: That it returns.
        reason: A line for stderr; none where it is empty.
    """
    # Whoever writes files has imported the module.
    writing = sys.modules.get("sao_onnx.writing")
    with contextlib.suppress(Exception):  # A closed terminal; a stream that was interrupted while it wrote.
        if writing is not None:
            writing.remove_unfinished()
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    with contextlib.suppress(Exception):
        sys.stderr.write(f"{reason}\n" if reason else "")
        sys.stderr.flush()
    os._exit(code)


def _handle(handler: Callable[[int, FrameType | None], None]) -> None:
    """Handle the signals, but for those that the parent process has set to be ignored.

    SIGHUP under `nohup`, SIGINT in the background of a script.
    """
    for name in NAMES:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)
