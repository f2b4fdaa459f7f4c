"""Programs whose stdin, stdout or stderr is closed, full, or read by nobody: the file is made, or they say that they failed."""

from __future__ import annotations

import io
import random
import shlex
import subprocess
from pathlib import Path
from typing import Any

import soundfile

from tests.faults.command import Ended, Patience, program, said
from tests.faults.folders import Tree, changes, tree
from tests.faults.jobs import JOBS, judged, set_up, start
from tests.faults.outcome import Fault, Outcome, wrong
from tests.faults.subject import pristine
from tests.processes import started

__all__ = ["prepare", "start"]

WAYS = {
    "stdin closed": "<&-",
    "stdout closed": ">&-",
    "stderr closed": "2>&-",
    "both outputs closed": ">&- 2>&-",
    "all closed": "<&- >&- 2>&-",
    "stdout full": ">/dev/full",
    "stderr full": "2>/dev/full",
    "both outputs full": ">/dev/full 2>/dev/full",
    "stdout read by nobody": "| :",
    "stdin endless": "</dev/zero",
}
"""What the shell does to the streams of a command."""

UNTOLD = ("stdout full", "both outputs full", "stdout read by nobody")
"""Where a command cannot tell what it has made, and may end with that."""

TELLING = (
    ("gen", "kick", "--seed", "1", "--seconds", "0.1", "--window", "0.15", "--steps", "2", "-o", "-", "--model", "MODEL"),
    ("models",),
    ("models", "--json"),
    ("inspect", "MODEL"),
    ("verify", "MODEL"),
    ("doctor",),
    ("--version",),
    ("gen", "--help"),
    ("gen",),
    ("gen", "kick", "-o", "x.xyz", "--model", "MODEL"),
    ("batch", "-", "-o", "out", "--model", "MODEL"),
)
"""Commands that only tell, or that write to stdout, or that fail."""


def prepare(rng: random.Random, folder: Path) -> Fault:
    """A program with a stream that is not as usual."""
    way = rng.choice(list(WAYS))
    name = rng.choice(list(JOBS))
    arguments = rng.choice(TELLING) if rng.random() < 0.5 else None
    set_up(JOBS[name], folder)
    if arguments is None:
        return Fault(f"{name}: {way}", lambda: _writing(name, folder, way))
    return Fault(f"{' '.join(arguments)}: {way}", lambda: _telling(arguments, folder, way))


def _run(arguments: list[str], work: Path, way: str) -> Ended:
    line = f"{shlex.join(program(arguments))} {WAYS[way]}"
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    # In a pipeline, its own exit code, and not that of whoever does not read.
    with started(["bash", "-c", f"{line}; exit ${{PIPESTATUS[0]}}"], cwd=work, **pipes) as process:
        try:
            out, err = process.communicate(timeout=2 * Patience.now())
        except subprocess.TimeoutExpired:
            return Ended(None, "", "")
        # The shell adds 128 to the number of a signal; 130 is a code of our own.
        code = 128 - process.returncode if process.returncode > 130 else process.returncode
        return Ended(code, out.decode("latin-1"), err.decode(errors="replace"))


def _writing(name: str, folder: Path, way: str) -> Outcome:
    before = tree(folder / "work")
    ended = _run(JOBS[name].command(), folder / "work", way)
    # Who does not read asks for silence.
    silent = any(word in way for word in ("stderr", "both", "all", "nobody"))
    outcome = judged(name, folder, before, ended, may_be_silent=silent)
    if outcome.verdict == "refused" and way not in UNTOLD:
        return wrong("no file because of a stream that is not needed", ended.err)
    return outcome


def _telling(arguments: tuple[str, ...], folder: Path, way: str) -> Outcome:
    work = folder / "work"
    before: Tree = tree(work)
    ended = _run([str(pristine()) if part == "MODEL" else part for part in arguments], work, way)
    if outcome := said(ended):
        return outcome
    if (touched := changes(before, tree(work))) and set(touched) != {"out"}:
        return wrong(f"files: {touched}")
    fails = arguments == ("gen",) or "x.xyz" in arguments or "batch" in arguments
    if fails:
        return Outcome("refused", ended.err.strip()) if ended.code else wrong("exit code 0 of a command that failed")
    silenced = "stdout" in way or "both" in way or "all" in way
    if silenced:
        if "-" in arguments and ended.code == 0:
            return wrong("exit code 0, and the clip is nowhere")
        return Outcome("allowed", f"exit code {ended.code}")
    if ended.code != 0:
        return wrong(f"exit code {ended.code} because of a stream that is not needed", ended.err)
    if "-" in arguments and not len(soundfile.read(io.BytesIO(ended.out.encode("latin-1")))[0]):
        return wrong("no clip on stdout")
    return Outcome("same")
