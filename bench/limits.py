"""One clip at full size in int8 under limits of memory: which limit is too small, and what the user is told then.

    python -m bench.limits [--folder scratch/bench]

Writes `limits.json` and `limits.md`. Needs Linux with control groups, and root. The kernel counts all memory of a group,
including cached pages of files, and kills a program that exceeds the limit.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import soundfile

from bench.common import PROMPT, SEED, STEPS, THREADS, parser, prepared, processor
from sao_onnx.sampling.noise import Noise

RATE, SECONDS = 44100, 12

LIMITS = (1000, 768, 640, 576, 512, 448, 400, 350)
"""In megabytes."""

INITIAL = "initial.wav"
"""A file as long as the window, in the folder of the models."""

WAYS: dict[str, list[str]] = {
    "library": [],
    "gen": [],
    "gen --preview": ["--preview", "preview.wav"],
    "gen --init-audio": ["--init-audio", INITIAL],
}
"""What is run, with the options of the command. Unlike the command, the library does not check the memory before it begins."""

UNCHECKED = """
import sys
import sao_onnx
engine = sao_onnx.load(sys.argv[1], precision="int8", threads=2, keep_loaded=False, tuned=False)
engine.generate(sys.argv[2], seed=int(sys.argv[3]), steps=int(sys.argv[4]))
"""


def main() -> None:
    """Measure, and write the report."""
    arguments = parser(__doc__).parse_args()
    prepared(arguments.folder, arguments.model)
    soundfile.write(arguments.folder / INITIAL, 0.3 * Noise(SEED).normal((SECONDS * RATE, 2)).clip(-3, 3), RATE)
    rows: list[dict[str, Any]] = []
    for limit in LIMITS:
        ends = {way: _limited(command(way, arguments.folder), limit, arguments.folder) for way in WAYS}
        rows.append({"limit": limit, "ends": ends})
        print(rows[-1], flush=True)
    report = {"processor": processor(), "rows": rows}
    arguments.results.mkdir(parents=True, exist_ok=True)
    (arguments.results / "limits.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    (arguments.results / "limits.md").write_text("\n".join(table(report)) + "\n", encoding="utf-8")


def command(way: str, folder: Path) -> list[str]:
    """The program for one of `WAYS`, to be run in the folder of the models."""
    bundle = str(folder.resolve() / "bundle")
    if way == "library":
        return [sys.executable, "-c", UNCHECKED, bundle, PROMPT, str(SEED), str(STEPS)]
    program = str(Path(sys.executable).with_name("sao-onnx"))
    options = ["--precision", "int8", "--seed", str(SEED), "--steps", str(STEPS), "--threads", str(THREADS), *WAYS[way]]
    return [program, "gen", PROMPT, "-m", bundle, "-o", "clip.wav", "--force", "-q", *options]


def _limited(command: list[str], megabytes: int, folder: Path) -> dict[str, Any]:
    """Run a program with a limit, and report how it ends: "done", "refused" or "killed"."""
    with _group(megabytes * 1_000_000) as group:

        def join() -> None:
            (group / "cgroup.procs").write_text(str(os.getpid()))

        started = time.monotonic()
        done = subprocess.run(command, cwd=folder, preexec_fn=join, capture_output=True, text=True, check=False)
        seconds = time.monotonic() - started
    said = done.stderr.strip().splitlines()[-1:] or [""]
    killed = done.returncode == -signal.SIGKILL
    outcome = "killed" if killed else "done" if done.returncode == 0 else "refused"
    return {"outcome": outcome, "seconds": round(seconds, 1), "said": said[0] if outcome == "refused" else ""}


@contextlib.contextmanager
def _group(limit: int) -> Iterator[Path]:
    """A new control group with a limit in bytes, of the version of control groups that this machine has."""
    older = Path("/sys/fs/cgroup/memory")
    top, name = (older, "memory.limit_in_bytes") if older.is_dir() else (Path("/sys/fs/cgroup"), "memory.max")
    group = top / f"sao-onnx-{os.getpid()}"
    group.mkdir()
    try:
        (group / name).write_text(str(limit))
        yield group
    finally:
        group.rmdir()


def table(report: dict[str, Any]) -> Iterator[str]:
    """Lines of the report, in Markdown."""
    yield "# Under hard limits of memory"
    yield ""
    yield f"One clip of 11.9 s, full size, int8, {STEPS} steps, {THREADS} threads, from the start of the process to its end, on"
    yield f"{report['processor']}. The command checks first whether there is enough memory; the library runs until the kernel"
    yield "kills it. Made by `python -m bench.limits`."
    yield ""
    yield "| limit | " + " | ".join(WAYS) + " |"
    yield "|---" * (len(WAYS) + 1) + "|"
    for row in report["rows"]:
        ends = [row["ends"][way] for way in WAYS]
        yield f"| {row['limit']} MB | " + " | ".join(f"{end['outcome']}, {end['seconds']} s" for end in ends) + " |"
    said = {way: row["ends"][way]["said"] for row in reversed(report["rows"]) for way in WAYS if row["ends"][way]["said"]}
    for way, text in said.items():
        yield ""
        yield f"{way} says: `{text}`"


if __name__ == "__main__":
    main()
