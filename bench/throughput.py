"""Clips a minute: one engine of two threads, two jobs of one thread, two shards; and the same on Ray, to see what it costs.

    python -m bench.throughput [--model BUNDLE] [--clips 40] [--rounds 3] [--results FOLDER]

All ways take turns. The pace is taken from the first clip to the last, the start apart. Those on Ray need the extra `ray`.
Where others share the machine, the seconds of processors that a clip takes tell more, which hold the start as well.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.common import ROOT
from sao_onnx.runtime.machine import describe_machine

WAYS: dict[str, list[list[str]]] = {
    "one job of one thread": [["--jobs", "1", "--threads", "1"]],
    "one job of two threads": [["--jobs", "1", "--threads", "2"]],
    "two jobs of one thread, one engine": [["--jobs", "2", "--threads", "2"]],
    "two shards of one thread, two engines": [["--threads", "1", "--shard", f"{index}/2"] for index in (1, 2)],
    "Ray, one actor of two threads": [["--ray", "local", "--threads", "2"]],
    "Ray, two actors of one thread": [["--ray", "local", "--threads", "1"]],
}
"""The options of each command that is part of a way."""


@dataclass(frozen=True)
class Found:
    """What a way took.

    Attributes:
        start: Seconds until its first clip.
        whole: Seconds until its end.
        pace: Clips a minute from the first to the last.
        cpu: Seconds of processors that its processes used, all together. Other programs change it little.
    """

    start: float
    whole: float
    pace: float
    cpu: float


def measure(model: str, folder: Path, parts: list[list[str]]) -> Found:
    """Make the list of a folder in a way, as a user does."""
    program = [
        str(Path(sys.executable).with_name("sao-onnx")),
        "batch",
        "list.jsonl",
        "-m",
        model,
        "-o",
        "clips",
        "--seed",
        "1",
        "-q",
    ]
    times: list[float] = []

    def read(process: subprocess.Popen[str]) -> None:
        for _ in process.stdout or ():
            times.append(time.monotonic())

    start = time.monotonic()
    with contextlib.ExitStack() as held:
        processes = [
            held.enter_context(subprocess.Popen([*program, *options], cwd=folder, stdout=subprocess.PIPE, text=True))
            for options in parts
        ]
        readers = [threading.Thread(target=read, args=(process,)) for process in processes]
        for reader in readers:
            reader.start()
        used: dict[int, float] = {}
        while any(reader.is_alive() for reader in readers):
            for process in processes:
                _add_used(process.pid, used)
            time.sleep(0.1)
        for reader in readers:
            reader.join()
    if any(process.returncode for process in processes):
        raise SystemExit(f"{parts} failed")
    whole = time.monotonic() - start
    return Found(min(times) - start, whole, 60 * (len(times) - 1) / (max(times) - min(times)), sum(used.values()))


def _add_used(pid: int, used: dict[int, float]) -> None:
    """Note the time that a process and all that it started have used so far, by their numbers."""
    with contextlib.suppress(psutil.Error):
        for process in (top := psutil.Process(pid), *top.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                used[process.pid] = times.user + times.system


def main() -> None:
    """Measure, and write the report."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--model", default="sao-tiny", help="a bundle, or its name")
    arguments.add_argument("--clips", type=int, default=40)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--results", type=Path, default=ROOT / "bench" / "results", help="folder for the report")
    given = arguments.parse_args()
    ways = {name: parts for name, parts in WAYS.items() if "Ray" not in name or importlib.util.find_spec("ray")}
    found: dict[str, list[Found]] = {name: [] for name in ways}
    for _ in range(given.rounds):
        for name, parts in ways.items():
            with tempfile.TemporaryDirectory() as folder:
                rows = ({"prompt": "bright saw wave at A4"} for _ in range(given.clips))
                (Path(folder) / "list.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
                found[name].append(measure(given.model, Path(folder), parts))
                print(name, found[name][-1], flush=True)
    call = " ".join(["python -m bench.throughput", *sys.argv[1:]])
    (given.results / "throughput.md").write_text(
        "\n".join(report_lines(found, call, given.model, given.clips)), encoding="utf-8"
    )


def report_lines(found: dict[str, list[Found]], call: str, model: str, clips: int) -> list[str]:
    """The report as Markdown."""
    machine = describe_machine()
    lines = [
        "# Clips a minute",
        "",
        f"`{call}` on {machine.processor}, {machine.cores} cores, shared with other programs. Model {model}, {clips} clips of "
        f"its whole window with its own steps; medians of {len(next(iter(found.values())))} rounds in turn, and their range.",
        "",
        "| way | clips a minute | range | seconds to the first clip | seconds in all | seconds of processors, a clip |",
        "|---|---|---|---|---|---|",
    ]
    for name, all_found in found.items():
        paces = [one.pace for one in all_found]
        start, whole, cpu = (statistics.median(getattr(one, part) for one in all_found) for part in ("start", "whole", "cpu"))
        spread = f"{min(paces):.1f} to {max(paces):.1f}"
        lines.append(f"| {name} | {statistics.median(paces):.1f} | {spread} | {start:.1f} | {whole:.1f} | {cpu / clips:.2f} |")
    return [*lines, ""]


if __name__ == "__main__":
    main()
