"""Time and peak of memory of the commands at full size, as a user sees them: whole processes from start to exit.

    python -m bench.rehearsal [--folder scratch/bench] [--model models/stable-audio-open-small]

Writes `rehearsal.json` and `rehearsal.md`. Needs Linux, whose kernel measures the processes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.common import FULL_SIZE, PROMPT, SEED, STEPS, THREADS, decibels, output_of, parser, prepared

ROUNDS = 3
PRECISIONS = ("int8", "fp32")

FIRST_STEP = """
import sys, time
import sao_onnx
from sao_onnx.events import Sampled
engine = sao_onnx.load(sys.argv[1], precision=sys.argv[2], threads=2, keep_loaded=False)
for event in engine.stream("drums", seed=1, steps=8):
    if isinstance(event, Sampled):
        print(time.time())
        break
"""


def main() -> None:
    """Measure, and write the report."""
    arguments = parser(__doc__).parse_args()
    report = rehearse(arguments.folder, arguments.model)
    arguments.results.mkdir(parents=True, exist_ok=True)
    (arguments.results / "rehearsal.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    (arguments.results / "rehearsal.md").write_text(table(report), encoding="utf-8")
    print(table(report))


def rehearse(folder: Path, model: Path = FULL_SIZE) -> dict[str, Any]:
    """Convert a model and generate clips.

    Args:
        folder: Folder of the models.
        model: Folder with `model_config.json` and `t5_config.json`.

    Returns:
        Everything that was measured.
    """
    prepared(folder, model)
    command, bundle, clip = str(Path(sys.executable).with_name("sao-onnx")), folder / "bundle", folder / "clip.wav"
    convert = [command, "convert", str(folder / "checkpoint"), "--t5", str(folder / "checkpoint" / "t5")]
    convert += ["-o", str(bundle), "--force", *(option for p in PRECISIONS for option in ("--precision", p))]
    report: dict[str, Any] = {"conversion": _measured(convert), "commands": {}, "first_step": {}, "differences": {}}
    generate = [command, "gen", PROMPT, "-m", str(bundle), "-o", str(clip), "--force", "--json", "--seed", str(SEED)]
    generate += ["--steps", str(STEPS), "--threads", str(THREADS)]
    requests = {p: [*generate, "--precision", p] for p in PRECISIONS}
    requests["int8, 3 s"] = [*generate, "--precision", "int8", "--seconds", "3"]
    requests["int8, --preview"] = [*generate, "--precision", "int8", "--preview", str(folder / "sofar.wav")]
    # Alternately, because the speed of a machine changes over time.
    for _ in range(ROUNDS):
        for name, request in requests.items():
            report["commands"].setdefault(name, []).append(_measured(request))
        for precision in PRECISIONS:
            began = time.time()
            reached = float(output_of([sys.executable, "-c", FIRST_STEP, str(bundle), precision]))
            report["first_step"].setdefault(precision, []).append(reached - began)
    _clips(folder)
    report["differences"] = {precision: _differences(folder, precision) for precision in PRECISIONS}
    return report


def _measured(command: list[str]) -> dict[str, float]:
    """Run a program, and measure its seconds and its peak of resident memory in bytes."""
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed with status {status}")
    return {"seconds": time.monotonic() - began, "peak_memory": usage.ru_maxrss * 1024}


def _clips(folder: Path) -> None:
    """Write the same clip from PyTorch and from both precisions into the folder."""
    for program, variant in (("pytorch", "eager"), *(("ours", precision) for precision in PRECISIONS)):
        arguments = [f"bench.contenders.{program}", str(folder), variant, str(THREADS), str(STEPS)]
        output_of([sys.executable, "-m", *arguments])


def _differences(folder: Path, precision: str) -> dict[str, dict[str, float]]:
    """Largest difference of a clip to PyTorch's, the peak of PyTorch's, and the signal-to-noise ratio in decibels."""
    with np.load(folder / f"ours-{precision}.npz") as found, np.load(folder / "pytorch-eager.npz") as exact:
        return {
            name: {
                "max": float(np.abs(found[name] - exact[name]).max()),
                "peak": float(np.abs(exact[name]).max()),
                "snr": decibels(exact[name], found[name]),
            }
            for name in ("latents", "samples")
        }


def table(report: dict[str, Any]) -> str:
    """The report in Markdown."""
    conversion = report["conversion"]
    lines = [
        "# Rehearsal at full size",
        "",
        f"Synthetic weights, the whole window unless said otherwise, {STEPS} steps, {THREADS} threads; medians of {ROUNDS}. "
        "Made by `python -m bench.rehearsal`.",
        "",
        f"Conversion to both precisions: {conversion['seconds']:.0f} s, peak {conversion['peak_memory'] / 1e9:.1f} GB.",
        "",
        "| `sao-onnx gen` as a process | from start to exit | peak memory |",
        "|---|---|---|",
    ]
    for name, runs in report["commands"].items():
        seconds, peak = (np.median([run[key] for run in runs]) for key in ("seconds", "peak_memory"))
        lines.append(f"| {name} | {seconds:.1f} s | {peak / 1e6:.0f} MB |")
    lines += ["", "| from the start of a process to its first sampler step | |", "|---|---|"]
    lines += [f"| {precision} | {np.median(times):.2f} s |" for precision, times in report["first_step"].items()]
    lines += [
        "",
        "| against PyTorch, same seed | largest difference | peak of the signal | signal to noise |",
        "|---|---|---|---|",
    ]
    for precision, entries in report["differences"].items():
        for name, entry in entries.items():
            lines.append(f"| {precision} {name} | {entry['max']:.1e} | {entry['peak']:.2f} | {entry['snr']:.1f} dB |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
