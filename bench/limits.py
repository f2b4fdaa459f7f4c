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

from bench.common import PROMPT, SEED, STEPS, THREADS, parser, prepared

LIMITS = (1000, 768, 640, 576, 512, 448, 400, 350)
"""In megabytes."""

UNCHECKED = """
import sys
import sao_onnx
engine = sao_onnx.load(sys.argv[1], precision="int8", threads=2, keep_loaded=False, tuned=False)
engine.generate(sys.argv[2], seed=int(sys.argv[3]), steps=int(sys.argv[4]))
"""
"""The library. Unlike the command, it does not check the memory before it begins."""


def main() -> None:
    """Measure, and write the report."""
    arguments = parser(__doc__).parse_args()
    prepared(arguments.folder, arguments.model)
    bundle, clip = arguments.folder / "bundle", arguments.folder / "clip.wav"
    library = [sys.executable, "-c", UNCHECKED, str(bundle), PROMPT, str(SEED), str(STEPS)]
    command = [
        str(Path(sys.executable).with_name("sao-onnx")),
        "gen",
        PROMPT,
        "-m",
        str(bundle),
        "-o",
        str(clip),
        "--force",
        "-q",
    ]
    command += ["--precision", "int8", "--seed", str(SEED), "--steps", str(STEPS), "--threads", str(THREADS)]
    rows = []
    for limit in LIMITS:
        rows.append({"limit": limit, "library": _limited(library, limit), "command": _limited(command, limit)})
        print(rows[-1], flush=True)
    arguments.results.mkdir(parents=True, exist_ok=True)
    (arguments.results / "limits.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    (arguments.results / "limits.md").write_text("\n".join(table(rows)) + "\n", encoding="utf-8")


def _limited(command: list[str], megabytes: int) -> dict[str, Any]:
    """Run a program with a limit, and report how it ends: "done", "refused" or "killed"."""
    with _group(megabytes * 1_000_000) as group:

        def join() -> None:
            (group / "cgroup.procs").write_text(str(os.getpid()))

        started = time.monotonic()
        done = subprocess.run(command, preexec_fn=join, capture_output=True, text=True, check=False)
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


def table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Lines of the report, in Markdown."""
    yield "# Under hard limits of memory"
    yield ""
    yield f"One clip of 11.9 s, full size, int8, {STEPS} steps, {THREADS} threads, from the start of the process to its end."
    yield "The command checks first whether there is enough memory; the library runs until the kernel kills it."
    yield ""
    yield "| limit | library | seconds | command | seconds |"
    yield "|---|---|---|---|---|"
    for row in rows:
        ends = (row["library"], row["command"])
        yield f"| {row['limit']} MB | " + " | ".join(f"{end['outcome']} | {end['seconds']}" for end in ends) + " |"
    if refused := [row["command"]["said"] for row in rows if row["command"]["said"]]:
        yield ""
        yield f"It says: `{refused[0]}`"


if __name__ == "__main__":
    main()
