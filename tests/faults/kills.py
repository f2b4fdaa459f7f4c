"""Signals at any moment of a command: files are whole or absent, what was there stays, the next run leaves nothing over."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.faults.calls import right_code
from tests.faults.command import Ended, Fork, Patience, main, program
from tests.faults.folders import tree
from tests.faults.jobs import JOBS, chosen, judged, reference, set_up, start
from tests.faults.outcome import Fault, Outcome, wrong
from tests.processes import started

__all__ = ["prepare", "start"]

SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGINT, signal.SIGHUP)

PROGRAMS = 0.25
"""The share of programs of their own; the others are forks, which need not import anything, so that more of them fit."""

START = 1.0
"""Seconds within which a program is about to begin its work."""


def prepare(rng: random.Random, folder: Path) -> Fault:
    """A signal, at times two, somewhere in a command."""
    name, job = chosen(rng)
    number, own = rng.choice(SIGNALS), rng.random() < PROGRAMS
    moment, second = rng.random() * 1.1, rng.choice((None, None, None, 0.0, 0.01, 0.1))
    set_up(job, folder)
    what = f"{name}, {'a program' if own else 'a fork'}: {number.name} at {moment:.2f}{'' if second is None else ', twice'}"
    return Fault(what, lambda: _judged(name, folder, number, moment, second, own))


def _judged(name: str, folder: Path, number: signal.Signals, moment: float, second: float | None, own: bool) -> Outcome:
    before, length = tree(folder / "work"), reference(name)[1]
    if own:
        ended = _program(name, folder, number, moment * (START + length), second)
    else:
        fork = Fork(folder / "work", main(JOBS[name].command()))
        time.sleep(moment * length)
        fork.send(number)
        if second is not None:
            time.sleep(second)
            fork.send(number)
        ended = fork.end()
    outcome = judged(name, folder, before, ended, may_be_silent=True)
    if ended.code == 0 or outcome.verdict not in ("refused", "allowed"):
        return outcome
    if not right_code(ended.code, number):
        return wrong(f"exit code {ended.code} after {number.name}", ended.err)
    return Outcome("allowed", "ended, files whole or absent")


def _program(name: str, folder: Path, number: signal.Signals, seconds: float, second: float | None) -> Ended:
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with started(program(JOBS[name].command()), cwd=folder / "work", **pipes) as process:
        time.sleep(seconds)
        process.send_signal(number)
        if second is not None:
            time.sleep(second)
            process.send_signal(number)
        try:
            out, err = process.communicate(timeout=Patience.now())
        except subprocess.TimeoutExpired:
            return Ended(None, "", "")
        return Ended(process.returncode, out, err)
