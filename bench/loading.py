"""What `sao-onnx gen` takes from start to exit beside the clip itself, and what opening the denoiser ahead changes.

    python -m bench.loading [--folder scratch/bench] [--before ../older/engine] [--rounds 5]

Writes `loading.md`. Every figure is of a process of its own: of each way the round with the shortest time from start to exit
counts, because other programs can only make it longer. The ways take turns. `--before` names the folder of another engine's
package, such as `engine` of an older checkout, for a column of its own.
"""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bench.common import PROMPT, ROOT, SEED, STEPS, parser, prepared, processor
from sao_onnx.runtime.native_operators import native_operators

PROGRAM = """
import sys
ahead, sys.argv[:2] = sys.argv[1], ["sao-onnx"]
if ahead != "as it is":
    import sao_onnx.running.stages
    sao_onnx.running.stages.fits_ahead = lambda *arguments: ahead == "ahead"
from sao_onnx.cli import main
main()
"""
"""The command, with the denoiser opened ahead, in turn, or as the engine itself decides."""

CLIP = ("conditioning", "sampling", "decoding")
COUNT = 4


@dataclass(frozen=True)
class Way:
    """How the command is run: a heading, an engine, and when the denoiser is opened."""

    name: str
    engine: Path
    ahead: str


@dataclass(frozen=True)
class Round:
    """One process: seconds from start to exit, of its processors, of loading and of the clip; and its peak in megabytes."""

    whole: float
    processors: float
    load: float
    clip: float
    peak: float


def main() -> None:
    """Measure, and write the report."""
    options = parser(__doc__)
    options.add_argument("--before", type=Path, help="folder of another engine's package")
    options.add_argument("--rounds", type=int, default=5, help="processes of each way")
    given = options.parse_args()
    bundle = given.folder / "bundle"
    if not bundle.is_dir():
        prepared(given.folder, given.model)
    ways = [] if given.before is None else [Way("before", given.before, "as it is")]
    ways += [Way("in turn", ROOT / "engine", "in turn"), Way("ahead", ROOT / "engine", "ahead")]
    found: dict[str, list[Round]] = {way.name: [] for way in ways}
    several: dict[str, list[Round]] = {way.name: [] for way in ways}
    starts: dict[str, list[float]] = {way.name: [] for way in ways}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(given.rounds):
            for way in ways:
                found[way.name].append(_round(way, bundle, Path(folder), 1))
                starts[way.name].append(_start(way, bundle))
        for way in ways:
            several[way.name].append(_round(way, bundle, Path(folder), COUNT))
    best = {name: min(rounds, key=lambda one: one.whole) for name, rounds in found.items()}
    clips = {name: min(rounds, key=lambda one: one.whole) for name, rounds in several.items()}
    (given.results / "loading.md").write_text(_page(best, clips, starts, given.rounds), encoding="utf-8")


def _page(best: dict[str, Round], clips: dict[str, Round], starts: dict[str, list[float]], rounds: int) -> str:
    names = list(best)
    start = {name: min(starts[name]) for name in names}
    rows = [
        ("start: Python, imports, options, the bundle", [f"{start[name]:.2f} s" for name in names]),
        ("waiting for stages to be opened", [f"{best[name].load:.2f} s" for name in names]),
        ("the clip: conditioning, sampling, decoding", [f"{best[name].clip:.2f} s" for name in names]),
        ("the rest: the file, exit", [f"{_rest(best[name], start[name]):.2f} s" for name in names]),
        ("from start to exit", [f"{best[name].whole:.2f} s" for name in names]),
        ("in relation to the clip", [f"{best[name].whole / best[name].clip:.2f}" for name in names]),
        ("seconds of the processors", [f"{best[name].processors:.1f} s" for name in names]),
        ("peak memory", [f"{best[name].peak:.0f} MB" for name in names]),
        (f"`--count {COUNT}`, from start to exit", [f"{clips[name].whole:.2f} s" for name in names]),
        ("loading of all of them", [f"{clips[name].load:.2f} s" for name in names]),
        ("in relation to the clips", [f"{clips[name].whole / clips[name].clip:.2f}" for name in names]),
    ]
    lines = [f"| {what} | {' | '.join(cells)} |" for what, cells in rows]
    return (
        "# From start to exit\n\n"
        f"`sao-onnx gen` with a bundle at full size, int8, {STEPS} steps, on {processor()}: `python -m bench.loading`.\n"
        f'The fastest of {rounds} rounds by turns; of `--count` one. "In turn" opens a stage when the one before is gone,\n'
        'as where memory is short; "ahead" opens the denoiser while the text encoder works. The start is that of\n'
        f"`--dry-run`, its exit included. Native operators: {native_operators()}.\n\n"
        f"| | {' | '.join(names)} |\n|---|{'---|' * len(names)}\n" + "\n".join(lines) + "\n"
    )


def _rest(one: Round, start: float) -> float:
    return max(0.0, one.whole - one.clip - one.load - start)


def _command(way: Way, bundle: Path) -> list[str]:
    options = ["--model", str(bundle), "--precision", "int8", "--seed", str(SEED), "--full-window", "--force"]
    return [sys.executable, "-c", PROGRAM, way.ahead, "gen", PROMPT, *options]


def _run(way: Way, command: list[str]) -> tuple[float, float, str]:
    """Seconds from start to exit, those of the processors, and what the command says."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    # In front of what was given, which may bring the native operators.
    paths = [str(way.engine.resolve()), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    began = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    whole = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{way.name} failed with status {done.returncode}:\n{done.stderr[-4000:]}")
    return whole, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stderr


def _start(way: Way, bundle: Path) -> float:
    """Seconds until the work would begin, with the end of the process: the least part of them."""
    return _run(way, [*_command(way, bundle), "--dry-run"])[0]


def _round(way: Way, bundle: Path, folder: Path, count: int) -> Round:
    # The command names its clip itself where there are several.
    output = folder / "{seed}.wav"
    whole, processors, said = _run(way, [*_command(way, bundle), "-v", "-o", str(output), "--count", str(count)])
    clip = sum(sum(_seconds(name, said)) for name in CLIP)
    peak = max(float(size) * (1000 if unit == "GB" else 1) for size, unit in re.findall(r"peak memory ([\d.]+) ([MG]B)", said))
    return Round(whole, processors, sum(_seconds("load", said)), clip, peak)


def _seconds(name: str, said: str) -> list[float]:
    return [float(found) for found in re.findall(rf"\b{name} ([\d.]+) s", said)]


if __name__ == "__main__":
    main()
