"""Other programs that tests start: always ended, never waited for without end, and deaf to how the tests were started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

COMMAND = Path(sys.executable).with_name("sao-onnx")

GUARD = 1800.0
"""Seconds after which a program hangs. Far more than any takes on a slow machine: it says nothing about speed."""


@contextlib.contextmanager
def started(command: Sequence[object], *, hears: bool = True, **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """A program and all that it starts, killed at the end of the block if they are still there.

    Args:
        command: The program and its arguments.
        hears: It starts with no signal ignored, however these tests were started; otherwise as in the background of a script.
        **options: Of `subprocess.Popen`.
    """
    options = {"stdin": subprocess.DEVNULL} | options
    with _inherited(hears):
        process = subprocess.Popen([str(part) for part in command], start_new_session=True, **options)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if sys.platform == "win32":
                process.kill()
            else:
                os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


@contextlib.contextmanager
def _inherited(hears: bool) -> Iterator[None]:
    """What a program that starts in this block does with signals.

    A handler of ours is forgotten when a program begins, but not that a signal is ignored: as SIGHUP is under `nohup`, and
    SIGINT in the background.
    """
    wanted: dict[int, Any] = {signal.SIGINT: signal.default_int_handler if hears else signal.SIG_IGN}
    if sys.platform != "win32":
        wanted |= dict.fromkeys((signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT), signal.default_int_handler)
    before = {number: signal.signal(number, action) for number, action in wanted.items()}
    try:
        yield
    finally:
        for number, action in before.items():
            signal.signal(number, action)


def run(
    command: Sequence[object], *, input: str | None = None, text: bool = True, **options: Any
) -> subprocess.CompletedProcess[Any]:
    """Run a program to its end; what it wrote and its exit code."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    if input is not None:
        options["stdin"] = subprocess.PIPE
    with started(command, text=text, **options) as process:
        stdout, stderr = process.communicate(input, timeout=GUARD)
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def succeed(command: Sequence[object], **options: Any) -> str:
    """Run a program that must succeed; what it wrote to stdout."""
    done = run(command, **options)
    assert done.returncode == 0, f"{done.args} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return str(done.stdout)


def wait_until(condition: Callable[[], object], process: subprocess.Popen[Any]) -> None:
    """Wait until something holds that a running program brings about. Fails if the program ends before, or hangs."""
    deadline = time.monotonic() + GUARD
    while not condition():
        assert process.poll() is None, f"{process.args!r} ended with {process.returncode}"
        assert time.monotonic() < deadline, f"{process.args!r} hangs"
        time.sleep(0.02)


def interrupt(process: subprocess.Popen[Any], number: int = signal.SIGINT) -> tuple[int, str]:
    """Send a signal to a program; its exit code, and what it wrote to stderr."""
    process.send_signal(number)
    _, stderr = process.communicate(timeout=GUARD)
    return process.returncode, stderr
