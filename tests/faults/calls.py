"""One call of the operating system fails while a command works, or the process ends at it: files are whole or absent.

Python's audit events tell when a file is opened, renamed, linked or removed, whoever does it, before it happens; an exception
raised there takes the place of the call. What has no such event, `fsync` and `write`, gets one.
"""

from __future__ import annotations

import errno
import functools
import os
import random
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.faults.command import Fork, main
from tests.faults.folders import tree
from tests.faults.jobs import JOBS, chosen, forked, judged, set_up, start
from tests.faults.outcome import Fault, Outcome, wrong
from tests.faults.subject import pristine

__all__ = ["prepare", "right_code", "start"]

EVENTS = frozenset(
    ("open", "os.rename", "os.link", "os.remove", "os.mkdir", "os.truncate", "os.utime", "os.chmod", "os.listdir", "os.scandir")
)

ERRORS = ("ENOSPC", "EIO", "EACCES", "EROFS", "EMFILE", "EDQUOT", "EPERM", "EINVAL", "ENOENT", "EXDEV", "EEXIST")

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _watch(folder: Path, act: Callable[[str], None]) -> None:
    """Call a function at every event on a file in a folder or in the bundle."""
    roots = (str(folder), str(pristine()))

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("faults.fsync", "faults.write") or (event in EVENTS and _within(roots, arguments)):
            act(event)

    sync, write = os.fsync, os.write

    def told_sync(number: int) -> None:
        sys.audit("faults.fsync")
        sync(number)

    def told_write(number: int, data: Any) -> int:
        sys.audit("faults.write")
        return write(number, data)

    os.fsync, os.write = told_sync, told_write  # type: ignore[assignment]
    sys.addaudithook(hook)


def _within(roots: tuple[str, ...], arguments: tuple[Any, ...]) -> bool:
    if not arguments or not isinstance(arguments[0], (str, bytes, os.PathLike)):
        return False
    # Without a look at any file, which could itself be an event.
    return os.path.abspath(os.fsdecode(arguments[0])).startswith(roots)  # noqa: PTH100


@functools.cache
def _events(name: str) -> list[str]:
    """Events of a command to which nothing happens."""
    with tempfile.TemporaryDirectory() as folder:
        found: list[str] = []
        work, told = set_up(JOBS[name], Path(folder)), Path(folder) / "told"

        def call() -> None:
            _watch(work, found.append)
            try:
                main(JOBS[name].command())()
            finally:
                text = "\n".join(found)
                told.write_text(text)

        Fork(work, call).end()
        return told.read_text().splitlines()


def prepare(rng: random.Random, folder: Path) -> Fault:
    """A call of a command that fails, or at which the process ends."""
    name, job = chosen(rng)
    events = _events(name)
    nth = rng.randrange(len(events)) + 1
    way = rng.choice(("error", "error", "error", "errors from then on", "exit", "kill", "signal"))
    code, number = rng.choice(ERRORS), rng.choice(SIGNALS)
    set_up(job, folder)

    def before() -> None:
        seen = 0

        def act(event: str) -> None:
            nonlocal seen
            seen += 1
            if seen == nth or (seen > nth and way == "errors from then on"):
                _happen(way, code, number)

        _watch(folder, act)

    shown = {"exit": "", "kill": "", "signal": f" {number.name}"}.get(way, f" {code}")
    # Where removing, or looking for what is to be removed, is what fails, files may stay until the next run.
    stays = way == "errors from then on" or (way == "error" and events[nth - 1] in ("os.remove", "os.scandir", "os.listdir"))
    signalled = number if way == "signal" else None
    return Fault(
        f"{name}: {way}{shown} at event {nth}, {events[nth - 1]}", lambda: _judged(name, folder, before, signalled, stays)
    )


def _happen(way: str, code: str, number: signal.Signals) -> None:
    if way == "exit":
        os._exit(77)
    if way in ("kill", "signal"):
        os.kill(os.getpid(), signal.SIGKILL if way == "kill" else number)
        return
    raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)))


def _judged(name: str, folder: Path, before: Callable[[], None], number: signal.Signals | None, stays: bool) -> Outcome:
    files = tree(folder / "work")
    ended = forked(name, folder, before)
    outcome = judged(name, folder, files, ended, may_be_silent=number is not None, may_stay=stays)
    if number is None or outcome.verdict not in ("refused", "allowed"):
        return outcome
    return outcome if right_code(ended.code, number) else wrong(f"exit code {ended.code} after {number.name}", ended.err)


def right_code(code: int | None, number: int) -> bool:
    """Whether a command that a signal ended says so: 130 after Ctrl-C; for others their own number may be meant as well."""
    return code in ((130, -number) if number == signal.SIGINT else (130, 128 + number, -number))
