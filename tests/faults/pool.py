"""Faults are tried in processes beside this one, which are ended when a fault hangs, and replaced when one of them dies."""

from __future__ import annotations

import importlib
import os
import random
import shutil
import tempfile
import time
import traceback
from collections.abc import Iterable, Iterator
from multiprocessing import connection, get_context
from pathlib import Path
from typing import Any, NamedTuple

from tests.faults.command import Patience
from tests.faults.outcome import Fault, Outcome

MEMORY_FOLDER = Path("/dev/shm")
"""Where there is one: on a disk, thousands of files that wait until they are on it take most of the time."""

START = 120.0
"""Seconds that a process may take before its first fault: it imports and makes what faults are compared with."""


class Tried(NamedTuple):
    """A fault that was tried.

    Attributes:
        seed: Makes it again.
        what: It is, "" if its process ended before it could say so.
        outcome: What came of it.
    """

    seed: int
    what: str
    outcome: Outcome


class BrokenHarnessError(Exception):
    """The harness failed, and not what it tries."""


def prepare(module: str, seed: int, folder: Path) -> Fault:
    """The fault with a number, made in an empty folder."""
    fault: Fault = importlib.import_module(module).prepare(random.Random(f"{module}-{seed}"), folder)
    return fault


def _serve(pipe: Any, module: str, scratch: str, patience: float) -> None:
    """Try one fault after the other; for each, tell that it begins, and what came of it."""
    Patience.seconds = patience
    tempfile.tempdir = scratch
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # Some faults are tried in forks, which a process with threads cannot make.
    nobody = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):  # Libraries write to both.
        os.dup2(nobody, stream)
    kind = importlib.import_module(module)
    if hasattr(kind, "start"):
        kind.start()
    pipe.send(("ready",))
    while True:
        seed = pipe.recv()
        folder = Path(tempfile.mkdtemp(prefix=f"{seed}-"))
        try:
            fault = prepare(module, seed, folder)
            pipe.send(("begun", fault.what))
            pipe.send(("done", fault.run()))
        except BaseException:  # noqa: BLE001  A mistake in here must not be counted as a fault.
            pipe.send(("broken", traceback.format_exc()))
        os.chdir(scratch)
        shutil.rmtree(folder, ignore_errors=True)


class _Worker:
    def __init__(self, module: str, scratch: str, patience: float) -> None:
        self._arguments = (module, scratch, patience)
        self._start()

    def _start(self) -> None:
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, *self._arguments), daemon=True)
        self._process.start()
        theirs.close()
        self.seed: int | None = None
        self.deadline = time.monotonic() + START
        self.ready, self.what = False, ""

    def give(self, seed: int, rounds: int) -> None:
        self.seed, self.deadline, self.what = seed, time.monotonic() + rounds * Patience.now(), ""
        self.pipe.send(seed)

    def take(self) -> Tried | None:
        """What came of the fault, if that is what the process says."""
        try:
            message = self.pipe.recv()
        except (EOFError, ConnectionError):
            return self._ended()
        if message[0] == "broken":
            raise BrokenHarnessError(f"fault {self.seed}: {message[1]}")
        if message[0] == "done" and message[1].verdict == "untyped":
            return self._killed(message[1])  # Threads of a command that broke off may still write.
        if message[0] == "done":
            seed, self.seed = self.seed, None
            return Tried(seed or 0, self.what, message[1])
        self.ready = True
        self.what = message[1] if message[0] == "begun" else ""
        return None

    def _ended(self) -> Tried:
        self._process.join()
        return self._replaced(Outcome("crash", f"the process ended with {self._process.exitcode}"))

    def hung(self) -> Tried:
        return self._killed(Outcome("hang", "no end"))

    def _killed(self, outcome: Outcome) -> Tried:
        self._process.kill()
        self._process.join()
        return self._replaced(outcome)

    def _replaced(self, outcome: Outcome) -> Tried:
        if self.seed is None:
            raise BrokenHarnessError(f"a process that tries faults does not start: {outcome}")
        tried = Tried(self.seed, self.what, outcome)
        self.pipe.close()
        self._start()
        return tried

    def stop(self) -> None:
        self._process.kill()
        self._process.join()
        self.pipe.close()


def tried(module: str, seeds: Iterable[int], *, workers: int, patience: float, rounds: int = 1) -> Iterator[Tried]:
    """Try the faults of a kind, in processes of their own.

    Args:
        module: Full name of the kind's module.
        seeds: Numbers of the faults.
        workers: Faults at the same time.
        patience: Seconds after which something hangs, on a machine that does nothing else. A fault that does is tried once
            more.
        rounds: How many such times a fault may take: one for each program that it waits for.
    """
    Patience.seconds = patience
    suspects: list[int] = []
    for one in _tried(module, seeds, workers, patience, rounds):
        if one.outcome.verdict == "hang":
            suspects.append(one.seed)
        else:
            yield one
    yield from _tried(module, suspects, workers, patience, rounds)


def _tried(module: str, seeds: Iterable[int], count: int, patience: float, rounds: int) -> Iterator[Tried]:
    waiting = list(reversed(list(seeds)))
    if not waiting:
        return
    place = MEMORY_FOLDER if os.access(MEMORY_FOLDER, os.W_OK) else None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True, dir=place) as scratch:
        workers = [_Worker(module, scratch, patience) for _ in range(min(count, len(waiting)))]
        try:
            while workers:
                for worker in [worker for worker in workers if worker.ready and worker.seed is None]:
                    if waiting:
                        worker.give(waiting.pop(), rounds)
                    else:
                        worker.stop()
                        workers.remove(worker)
                yield from _arrived(workers)
        finally:
            for worker in workers:
                worker.stop()


def _arrived(workers: list[_Worker]) -> Iterator[Tried]:
    """What the processes say next, and those that are over their time."""
    if not workers:
        return
    left = min(worker.deadline for worker in workers) - time.monotonic()
    spoke = connection.wait([worker.pipe for worker in workers], max(left, 0))
    for worker in workers:
        late = time.monotonic() > worker.deadline
        one = worker.take() if worker.pipe in spoke else worker.hung() if late else None
        if one is not None:
            yield one
