"""How the time of a clip depends on its length, its steps, the threads, and the number of clips from one engine."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from bench.common import PROMPT, SEED, STEPS, THREADS, output_of

SWEEPS: dict[str, tuple[float, ...]] = {
    "seconds": (1, 3, 6, 9, 11.8),
    "steps": (1, 2, 4, 8, 16),
    "threads": (1, 2),
    "variations": (1, 2, 3, 4),
}
"""The settings that are varied, and their values. The others stay at the whole window, 8 steps, 2 threads, one clip."""


def measure(bundle: Path) -> dict[str, dict[str, dict[str, float]]]:
    """Measure every value of every setting in int8, each in a new process.

    Returns:
        Seconds of each stage, by setting and value.
    """
    return {
        sweep: {
            f"{value:g}": json.loads(output_of([sys.executable, "-m", "bench.growth", str(bundle), sweep, str(value)]))
            for value in values
        }
        for sweep, values in SWEEPS.items()
    }


def stage_seconds(bundle: Path, sweep: str, value: float) -> dict[str, float]:
    """Measure one value of one setting.

    Args:
        bundle: Folder of a bundle.
        sweep: A key of `SWEEPS`. "variations" are clips of successive seeds from one engine.
        value: Value of the setting.

    Returns:
        Seconds of each stage.
    """
    import sao_onnx

    threads = int(value) if sweep == "threads" else THREADS
    engine = sao_onnx.load(bundle, precision="int8", threads=threads, keep_loaded=sweep == "variations")
    seconds = min(value, engine.manifest.window_seconds) if sweep == "seconds" else None
    spent: dict[str, float] = {}
    for variation in range(int(value) if sweep == "variations" else 1):
        steps = int(value) if sweep == "steps" else STEPS
        clip = engine.generate(PROMPT, seconds=seconds, steps=steps, seed=SEED + variation)
        for stage, time in vars(clip.timings).items():
            spent[stage] = spent.get(stage, 0.0) + time
    return spent


def table(growth: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    """Lines of the report, in Markdown."""
    lines = ["## Time by setting (sao-onnx int8)", ""]
    for sweep, values in growth.items():
        lines += [f"| {sweep} | loading | sampling | decoding | whole |", "|---|---|---|---|---|"]
        for value, spent in values.items():
            cells = [spent["load"], spent["sampling"], spent["decoding"], sum(spent.values())]
            lines.append(f"| {value} | " + " | ".join(f"{cell:.2f} s" for cell in cells) + " |")
        lines.append("")
    return lines[:-1]


def main() -> None:
    """Print one measurement as JSON."""
    bundle, sweep, value = sys.argv[1:]
    measured: Any = stage_seconds(Path(bundle), sweep, float(value))
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
