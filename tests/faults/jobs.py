"""Commands that write files, what they write when nothing goes wrong, and whether less than that is allowed."""

from __future__ import annotations

import functools
import io
import json
import os
import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import soundfile

from tests.faults.command import Ended, Fork, main, ready_to_fork, said
from tests.faults.folders import Tree, tree
from tests.faults.outcome import Outcome, wrong
from tests.faults.subject import pristine, recording

OLD = b"what was here before\n" * 500

SHORT = ("--seed", "1", "--seconds", "0.2", "--window", "0.25", "--threads", "1")


@dataclass(frozen=True)
class Job:
    """A command.

    Attributes:
        arguments: Of it, without the model.
        outputs: The files that it writes, in its folder.
        previews: Those of them that are written several times, so that several contents are right.
        replaces: They are there before, and may be replaced.
    """

    arguments: tuple[str, ...]
    outputs: tuple[str, ...]
    previews: tuple[str, ...] = ()
    replaces: bool = False

    def command(self, *more: str) -> list[str]:
        """All arguments."""
        return [*self.arguments, "--model", str(pristine()), *more]


LIST = tuple(f"out/{name}" for name in ("1.wav", "2.flac", "3.wav", "1.json", "2.json", "3.json"))

JOBS = {
    "gen": Job(("gen", "kick", *SHORT, "--steps", "2", "-o", "a.wav"), ("a.wav",)),
    "replace": Job(("gen", "kick", *SHORT, "--steps", "2", "-o", "a.flac", "--force"), ("a.flac",), replaces=True),
    "json": Job(("gen", "kick", *SHORT, "--steps", "2", "-o", "a.wav", "--json"), ("a.wav", "a.json")),
    "preview": Job(
        ("gen", "kick", *SHORT, "--steps", "5", "-o", "a.wav", "--preview", "p.wav"), ("a.wav", "p.wav"), ("p.wav",)
    ),
    "replace preview": Job(
        ("gen", "kick", *SHORT, "--steps", "5", "-o", "a.wav", "--preview", "p.wav", "--force"),
        ("a.wav", "p.wav"),
        ("p.wav",),
        True,
    ),
    "several": Job(("gen", "kick", *SHORT, "--steps", "2", "-n", "3", "-o", "{index}.wav"), ("1.wav", "2.wav", "3.wav")),
    "initial": Job(("gen", "kick", *SHORT, "--steps", "2", "--init", "rec.wav", "-o", "a.mp3"), ("a.mp3",)),
    "batch": Job(("batch", "list.jsonl", "-o", "out", "--json", "--threads", "1"), LIST),
    "replace batch": Job(
        ("batch", "list.jsonl", "-o", "out", "--json", "--threads", "2", "-j", "2", "--force"), LIST, (), True
    ),
}
"""The commands by a name."""


def start() -> None:
    """Make this process ready to be forked, and ignorant of its user."""
    home = tempfile.mkdtemp()
    for name in ("XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        os.environ[name] = str(Path(home) / name)
    os.environ.pop("SAO_ONNX_MODEL", None)
    pristine()
    ready_to_fork()
    if (count := len(os.listdir("/proc/self/task"))) > 1:
        raise RuntimeError(f"{count} threads: forks of this process could wait for ever")


def chosen(rng: random.Random) -> tuple[str, Job]:
    """One of the commands."""
    name = rng.choice(list(JOBS))
    return name, JOBS[name]


def set_up(job: Job, folder: Path) -> Path:
    """The folder of a command: what it reads, what it may replace, and files that are none of its business."""
    work = folder / "work"
    work.mkdir(exist_ok=True)
    soundfile.write(work / "rec.wav", recording().T, 44100)
    rows = [
        {"prompt": f"kick {n}", "output": name, "seed": n, "steps": 2, "seconds": 0.1, "window_seconds": 0.15}
        for n, name in enumerate(("1.wav", "2.flac", "3.wav"), start=1)
    ]
    (work / "list.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (work / "mine.wav").write_bytes(OLD)
    (work / ".hidden.wav").write_bytes(OLD)
    for name in job.outputs if job.replaces else ():
        (work / name).parent.mkdir(exist_ok=True)
        (work / name).write_bytes(OLD)
    return work


@functools.cache
def reference(name: str) -> tuple[dict[str, bytes], float]:
    """What a command writes, and the seconds that it takes, in a fork of this process."""
    with tempfile.TemporaryDirectory() as folder:
        work = set_up(JOBS[name], Path(folder))
        began = time.monotonic()
        ended = Fork(work, main(JOBS[name].command())).end()
        if ended.code != 0:
            raise RuntimeError(f"{name} fails without a fault: {ended}")
        return {output: (work / output).read_bytes() for output in JOBS[name].outputs}, time.monotonic() - began


def judged(
    name: str, folder: Path, before: Tree, ended: Ended, *, may_be_silent: bool = False, may_stay: bool = False
) -> Outcome:
    """What came of a command.

    Args:
        name: Of the command.
        folder: Where it was set up.
        before: The files that were there before.
        ended: How it ended.
        may_be_silent: Its message may be lost.
        may_stay: It could not remove unfinished files; the next run can.
    """
    job, (new, _) = JOBS[name], reference(name)
    after = tree(folder / "work")
    leftovers = [path for path in after.keys() - before.keys() - {"out"} if path not in job.outputs]
    # With a warning, a clip may be made whose previews cannot be written.
    missing = job.previews if "warning: " in ended.err else ()
    problem = _others(job, before, after, leftovers) or _outputs(job, folder / "work", new, ended.code == 0, missing)
    if problem:
        return wrong(problem, ended.err)
    if outcome := said(ended):
        return outcome
    if leftovers and ended.code in (0, 1, 2, 3) and not may_stay:
        return wrong("an unfinished file stays though the command ended by itself", ended.err)
    if ended.code in (1, 2, 3) and not f"{ended.err}{ended.out}".strip() and not may_be_silent:
        return wrong(f"exit code {ended.code} without a message")
    if leftovers and (problem := _next_run(name, folder)):
        return wrong(problem)
    if ended.code == 0:
        return Outcome("same")
    return Outcome("refused" if ended.code in (1, 2, 3) else "allowed", ended.err.strip())


def _others(job: Job, before: Tree, after: Tree, leftovers: list[str]) -> str:
    for path, content in before.items():
        if path not in job.outputs and after.get(path) != content:
            return f"{path} is {'changed' if path in after else 'gone'}"
    strange = [path for path in leftovers if not Path(path).name.startswith(".")]
    return f"a new file {strange[0]}" if strange else ""


def _outputs(job: Job, work: Path, new: dict[str, bytes], complete: bool, missing: tuple[str, ...] = ()) -> str:
    """What is wrong with the files of a command; "" if each is the old one, the new one, or still missing."""
    for output in job.outputs:
        path = work / output
        kind = Path(output).suffix
        if not path.exists():
            if (complete and output not in missing) or job.replaces:
                return f"a {kind} is missing, exit code 0" if complete else f"a {kind} that was there is lost"
            continue
        data = path.read_bytes()
        if data == new[output] or (job.replaces and data == OLD and (not complete or output in missing)):
            continue
        if output not in job.previews or not _whole(data, new[output]):
            return f"a {kind} that is not whole" if data != OLD else f"an old {kind}, exit code 0"
    return ""


def _whole(data: bytes, other: bytes) -> bool:
    return len(data) == len(other) and len(soundfile.read(io.BytesIO(data))[0]) > 0


def _next_run(name: str, folder: Path) -> str:
    """What is wrong after the same command has run again; it must leave what it writes and nothing else."""
    job, (new, _) = JOBS[name], reference(name)
    work = folder / "work"
    more = () if "--force" in job.arguments else ("--force",)
    ended = Fork(work, main(job.command(*more))).end()
    if ended.code != 0:
        return f"the next run ends with {ended.code}"
    names = {path for path in tree(work) if path != "out"}
    known = {*job.outputs, "rec.wav", "list.jsonl", "mine.wav", ".hidden.wav"}
    if names - known:
        return "an unfinished file stays after the next run"
    return _outputs(job, work, new, complete=True) and "the next run does not write what it should"


def forked(name: str, folder: Path, before: Callable[[], None] | None = None) -> Ended:
    """Run a command in a fork to its end; `before` is called there before it begins."""
    return Fork(folder / "work", main(JOBS[name].command()), before).end()
