"""Reports of `bench.compare` in Markdown: one of each kind of processor, and all of them side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bench import growth

STAGES = ("load", "conditioning", "sampling", "decoding")

OURS, PYTORCH = "sao-onnx int8", "PyTorch eager"
"""Names of two contenders: the one that matters, and the one that others are compared with."""


def totals(runs: list[dict[str, Any]], load: bool = False) -> list[float]:
    """Seconds of every clip.

    Args:
        runs: The clips of a contender.
        load: Whether the time of loading counts.
    """
    stages = STAGES if load else STAGES[1:]
    return [sum(run["seconds"].get(stage, 0.0) for stage in stages) for run in runs]


def middle(values: Sequence[float]) -> str:
    """Median, smallest and largest of several times in seconds, as text."""
    return f"{np.median(values):.2f} s ({min(values):.2f}-{max(values):.2f})"


def table(report: dict[str, Any]) -> str:
    """The report in Markdown."""
    machine, runs = report["machine"], report["runs"]
    features = ", ".join(machine["features"] or ())
    lines = [
        f"# Comparison: {report['kind']}",
        "",
        f"One clip of the whole window, {report['steps']} steps, {report['threads']} threads, synthetic weights. Each clip is "
        f"made by a new process, and the programs take turns. Median (smallest-largest) of {report['rounds']}. "
        f"{machine['processor']}, {machine['cores']} cores ({features}); sao-onnx {report['sao_onnx']}, native operators: "
        f"{report.get('operators', 'not used')}. Made by `{report['command']}`. [Other processors](results.md).",
        "",
        "| | a step of the DiT | decoder | whole clip | PyTorch / this | with loading | processor time | peak memory "
        "| against PyTorch |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, measured in runs.items():
        step = [run["seconds"]["sampling"] / report["steps"] for run in measured]
        decoding = [run["seconds"]["decoding"] for run in measured]
        ratios = [a / b for a, b in zip(totals(runs[PYTORCH]), totals(measured), strict=True)]
        cells = [
            name,
            middle(step),
            middle(decoding),
            middle(totals(measured)),
            f"{np.median(ratios):.2f}",
            f"{np.median(totals(measured, load=True)):.2f} s",
            _processor_time(measured),
            f"{np.median([run['peak_memory'] for run in measured]) / 1e6:.0f} MB",
            f"{report['closeness'][name]['samples']:.0f} dB",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "The time of a clip does not include loading, which for `torch.compile` is compiling; `with loading` does. `PyTorch / "
        "this` is the median of the ratios of all rounds. `processor time` is what the whole process takes on all cores: other "
        "programs change it less. Each network is dropped after use, except those of PyTorch's checkpoint, which "
        "is loaded as a whole. LiteRT's clip leaves T5 out. Decibels compare the samples with PyTorch's for the same noise: "
        "every contender computes the same clip.",
        "",
        "| bundle | size |",
        "|---|---|",
        *(f"| {precision} | {size / 1e6:.0f} MB |" for precision, size in report["bundle"].items()),
    ]
    if "growth" in report:
        lines += ["", *growth.table(report["growth"])]
    return "\n".join(lines) + "\n"


def _processor_time(runs: list[dict[str, Any]]) -> str:
    """Median of a contender's processor time as text; "" in reports that have none."""
    seconds = [run["processor_seconds"] for run in runs if "processor_seconds" in run]
    return f"{np.median(seconds):.1f} s" if seconds else ""


def overview(reports: Sequence[dict[str, Any]]) -> str:
    """All reports in one table, in Markdown.

    Args:
        reports: One of each kind of processor.
    """
    names = (OURS, "sao-onnx fp32", "ONNX Runtime, plain export", PYTORCH)
    lines = [
        "# Comparison by processor",
        "",
        "Median time of one clip of the whole window, loading left out, on each kind of processor on which `bench.compare` "
        "ran. A processor `as` another one has all instructions hidden that the other one lacks; memory and clock are its own.",
        "",
        f"| processor | {' | '.join(names)} | PyTorch / {OURS} | {OURS} against PyTorch | |",
        "|---|" + "---|" * (len(names) + 3),
    ]
    for report in reports:
        runs, machine = report["runs"], report["machine"]
        ratios = [a / b for a, b in zip(totals(runs[PYTORCH]), totals(runs[OURS]), strict=True)]
        cells = [
            f"{machine['processor']}, {machine['cores']} cores ({', '.join(machine['features'] or ())})",
            *(f"{np.median(totals(runs[name])):.2f} s" for name in names),
            f"{np.median(ratios):.2f}",
            f"{report['closeness'][OURS]['samples']:.0f} dB",
            f"[{report['kind']}](results-{report['kind']}.md)",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
