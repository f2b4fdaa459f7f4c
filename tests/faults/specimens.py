"""Faults whose outcome is known: whether the harness sees what it shall see."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from sao_onnx.errors import RequestError
from tests.faults.outcome import Fault, Outcome, attempt, wrong


def _raising(error: BaseException) -> Callable[[], Outcome]:
    def call() -> NoReturn:
        raise error

    return lambda: attempt(call)


def _sleep() -> NoReturn:
    while True:
        time.sleep(60)


def _end() -> Outcome:
    os.kill(os.getpid(), signal.SIGKILL)
    return Outcome("same")


KNOWN: tuple[tuple[str, Callable[[], Outcome]], ...] = (
    ("refused", _raising(RequestError("steps is 0"))),
    ("untyped", _raising(ValueError("0"))),
    ("same", lambda: Outcome("same")),
    ("crash", _end),
    ("wrong", lambda: wrong("half a file")),
    ("allowed", lambda: Outcome("allowed")),
)
"""Verdicts, and what leads to them."""

HANGS = len(KNOWN)
"""Number of a fault that never ends."""

BROKEN = len(KNOWN) + 1
"""Number of a fault that is a mistake of the harness."""


def prepare(rng: random.Random, folder: Path) -> Fault:
    """The fault of a folder's number."""
    seed = int(folder.name.partition("-")[0])
    if seed == BROKEN:
        raise AssertionError("a mistake")
    return Fault("a specimen", _sleep if seed == HANGS else KNOWN[seed][1])
