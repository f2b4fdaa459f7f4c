"""A batch on a cluster whose machines and processes are killed at random: does every line get one whole file, the right one?

    python -m bench.many_machines [--bundle BUNDLE] [--clips 300] [--results FOLDER]

Nodes of Ray on this machine, with one processor each, stand for machines. Killed ones are replaced. Needs the extra `ray`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from bench.common import ROOT
from sao_onnx.audio.files import read_audio
from sao_onnx.runtime.machine import describe_machine

BUNDLE = ROOT / "models" / "miniature" / "bundle"
NODES, SECONDS, STEPS, SEED = 3, 1.0, 60, 5

COUNTS = re.compile(r"(\d+) made, (\d+) there before, (\d+) failed")
"""The summary of a batch."""

KEEPING = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_USAGE_STATS_REPORT_URL": "http://127.0.0.1:9/"}
"""For the processes of Ray that are started here: they report nothing to its makers, not even that."""


@dataclass(frozen=True)
class Report:
    """What came of a rehearsal.

    Attributes:
        lines: Of the list.
        processes: Actors that were killed.
        nodes: Nodes that were killed, with their actors.
        made: Lines that were told to be made.
        failed: Lines that were told to have failed.
        code: With which the command ended.
        missing: Lines without a file.
        other: Files that are no line's.
        different: Lines whose samples are not those of a batch without Ray.
        seconds: From the start of the command to its end.
        stdout: What the command printed.
        stderr: And what it told.
    """

    lines: int
    processes: int
    nodes: int
    made: int
    failed: int
    code: int
    missing: tuple[str, ...]
    other: tuple[str, ...]
    different: tuple[str, ...]
    seconds: float
    stdout: str
    stderr: str


@contextlib.contextmanager
def nodes(count: int) -> Iterator[Any]:
    """A cluster on this machine: a head without processors, and so many nodes with one each."""
    from ray.cluster_utils import Cluster

    before = {name: os.environ.get(name) for name in KEEPING}
    os.environ.update(KEEPING)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(count):
            cluster.add_node(num_cpus=1)
        yield cluster
    finally:
        cluster.shutdown()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def write_list(path: Path, clips: int, **options: Any) -> None:
    """A list of so many different clips."""
    rows = [{"prompt": f"rain {index}", "seconds": SECONDS, "steps": STEPS, **options} for index in range(clips)]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


def command(bundle: Path, *options: str) -> list[str]:
    """A batch of the list in the working folder."""
    program = str(Path(sys.executable).with_name("sao-onnx"))
    return [program, "batch", "list.jsonl", "-m", str(bundle), "--seed", str(SEED), "--precision", "fp32", *options]


def rehearse(bundle: Path, folder: Path, *, kills: int, every: float, seed: int, pools: int = NODES) -> Report:
    """Make the list in a folder on a cluster, kill meanwhile, and compare with what a batch without Ray makes.

    Args:
        bundle: The model.
        folder: With `list.jsonl`.
        kills: How many actors and nodes are killed, at most; fewer where the batch ends before.
        every: Seconds between them, on average.
        seed: Decides which are killed, and when.
        pools: Nodes.
    """
    chance = random.Random(seed)
    killed = {"process": 0, "node": 0}
    with nodes(pools) as cluster:
        batch = command(bundle, "-o", "clips", "--ray", cluster.address, "--threads", "1")
        start = time.monotonic()
        with subprocess.Popen(batch, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            while process.poll() is None and sum(killed.values()) < kills:
                time.sleep(chance.uniform(0.5, 1.5) * every)
                if kind := _kill(cluster, folder / "clips", chance):
                    killed[kind] += 1
            stdout, stderr = process.communicate()
        seconds = time.monotonic() - start
    subprocess.run(command(bundle, "-o", "alone", "--jobs", "2", "-q"), cwd=folder, check=True, stdout=subprocess.DEVNULL)
    wanted, found = _files(folder / "alone"), _files(folder / "clips")
    counts = COUNTS.search(stderr)
    return Report(
        lines=len(wanted),
        processes=killed["process"],
        nodes=killed["node"],
        made=int(counts[1]) if counts else 0,
        failed=int(counts[3]) if counts else 0,
        code=process.returncode,
        missing=tuple(sorted(wanted - found)),
        other=tuple(sorted(found - wanted)),
        different=tuple(sorted(name for name in wanted & found if not _same(folder, name))),
        seconds=seconds,
        stdout=stdout,
        stderr=stderr,
    )


def _files(folder: Path) -> set[str]:
    return set(os.listdir(folder))  # noqa: PTH208  Names.


def _same(folder: Path, name: str) -> bool:
    """Whether both batches have made the same samples; a file that is not whole is none."""
    try:
        (found, rate), (wanted, _) = (read_audio(folder / part / name) for part in ("clips", "alone"))
    except OSError:
        return False
    return rate > 0 and np.array_equal(found, wanted)


def _kill(cluster: Any, clips: Path, chance: random.Random) -> str:
    """Kill an actor that makes clips, or a node, once there are clips. Returns which, or ""."""
    if not any(clips.glob("*.wav")):
        return ""
    if chance.random() < 0.4:
        cluster.remove_node(chance.choice(sorted(cluster.worker_nodes, key=id)), allow_graceful=False)
        cluster.add_node(num_cpus=1)
        return "node"
    raylets = [one.process.pid for node in cluster.worker_nodes for one in node.all_processes["raylet"]]
    actors = [child for pid in raylets for child in psutil.Process(pid).children(recursive=True) if "MapWorker" in _name(child)]
    if not actors:
        return ""
    with contextlib.suppress(psutil.NoSuchProcess):
        chance.choice(actors).kill()
    return "process"


def _name(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def report_lines(found: Report, call: str) -> list[str]:
    """The report as Markdown."""
    machine = describe_machine()
    return [
        "# A batch on machines that fail",
        "",
        f"`{call}` on {machine.processor}, {machine.cores} cores, shared with other programs. The miniature bundle in fp32, "
        f"clips of {SECONDS:g} s in {STEPS} steps, {NODES} nodes of Ray on this machine with one processor each. Actors and "
        "whole nodes are ended with SIGKILL at random moments, and killed nodes replaced.",
        "",
        "| what | found |",
        "|---|---|",
        f"| lines of the list | {found.lines} |",
        f"| actors killed | {found.processes} |",
        f"| nodes killed | {found.nodes} |",
        f"| the command's exit code and summary | {found.code}, {found.made} made, {found.failed} failed |",
        f"| lines without a file | {len(found.missing)} |",
        f"| files of no line, whole or not | {len(found.other)} |",
        f"| lines whose samples differ from a batch without Ray | {len(found.different)} |",
        f"| lines on stdout that are not the names of clips | {strangers(found)} |",
        f"| seconds | {found.seconds:.0f} |",
        "",
    ]


def strangers(found: Report) -> int:
    """How many lines of stdout are not the name of a clip, or name one again."""
    names = [line for line in found.stdout.splitlines() if re.fullmatch(r"clips/\d+-rain-\d+\.wav", line)]
    return len(found.stdout.splitlines()) - len(set(names))


def main() -> None:
    """Rehearse, and write the report."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--bundle", type=Path, default=BUNDLE, help="a bundle that makes clips fast")
    arguments.add_argument("--clips", type=int, default=300)
    arguments.add_argument("--kills", type=int, default=1000, help="at most")
    arguments.add_argument("--every", type=float, default=6.0, help="seconds between two kills, on average")
    arguments.add_argument("--seed", type=int, default=1, help="of the kills")
    arguments.add_argument("--results", type=Path, default=ROOT / "bench" / "results", help="folder for the report")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_list(Path(folder) / "list.jsonl", given.clips)
        found = rehearse(given.bundle.resolve(), Path(folder), kills=given.kills, every=given.every, seed=given.seed)
    call = " ".join(["python -m bench.many_machines", *sys.argv[1:]])
    given.results.mkdir(parents=True, exist_ok=True)
    (given.results / "many-machines.md").write_text("\n".join(report_lines(found, call)), encoding="utf-8")
    print("\n".join(report_lines(found, call)), found.stderr, sep="\n")


if __name__ == "__main__":
    main()
