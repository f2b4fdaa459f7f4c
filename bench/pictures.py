"""Diagrams of a comparison: time of each stage, peak of memory, and time by setting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
from matplotlib import pyplot as plt

STAGES = {"load": "#c7c7c7", "conditioning": "#8da0cb", "sampling": "#66c2a5", "decoding": "#fc8d62"}


def draw(report: dict[str, Any], folder: Path) -> None:
    """Write all diagrams for which the report has numbers.

    Args:
        report: What `bench.compare.compare` returns, with "growth" if it was measured.
        folder: Folder for the files, whose names end with the kind of processor.
    """
    _stages(report, folder / f"stages-{report['kind']}.png")
    _memory(report, folder / f"memory-{report['kind']}.png")
    if "growth" in report:
        _growth(report["growth"], folder / f"growth-{report['kind']}.png")


def _stages(report: dict[str, Any], path: Path) -> None:
    names = list(report["runs"])
    figure, axes = plt.subplots(figsize=(9, 0.55 * len(names) + 1.2), layout="constrained")
    left = np.zeros(len(names))
    for stage, colour in STAGES.items():
        # Loading includes compiling for torch.compile, which takes many times longer than everything else.
        shown = [0.0 if "compile" in name and stage == "load" else _median(report, name, stage) for name in names]
        axes.barh(names, shown, left=left, color=colour, label=stage)
        left += shown
    for i, total in enumerate(left):
        axes.text(total, i, f" {total:.1f} s", va="center")
    axes.invert_yaxis()
    axes.set_xlim(0, 1.12 * max(left))
    axes.set_xlabel(f"seconds for one clip, {report['threads']} threads (compiling left out)")
    axes.legend(loc="lower right")
    _save(figure, path)


def _median(report: dict[str, Any], name: str, stage: str) -> float:
    return float(np.median([run["seconds"].get(stage, 0.0) for run in report["runs"][name]]))


def _memory(report: dict[str, Any], path: Path) -> None:
    peaks = {name: np.median([run["peak_memory"] for run in runs]) / 1e9 for name, runs in report["runs"].items()}
    figure, axes = plt.subplots(figsize=(9, 0.45 * len(peaks) + 1.0), layout="constrained")
    bars = axes.barh(list(peaks), list(peaks.values()), color=STAGES["conditioning"])
    axes.bar_label(bars, fmt=" %.2f GB")
    axes.invert_yaxis()
    axes.set_xlim(0, 1.15 * max(peaks.values()))
    axes.set_xlabel("peak of resident memory in GB")
    _save(figure, path)


def _growth(growth: dict[str, dict[str, dict[str, float]]], path: Path) -> None:
    figure, all_axes = plt.subplots(1, len(growth), figsize=(3.2 * len(growth), 3.2), layout="constrained", sharey=False)
    for axes, (sweep, values) in zip(all_axes, growth.items(), strict=True):
        x = [float(value) for value in values]
        for stage, colour in STAGES.items():
            axes.plot(x, [spent[stage] for spent in values.values()], marker="o", color=colour, label=stage)
        axes.plot(x, [sum(spent.values()) for spent in values.values()], marker="o", color="black", label="whole")
        axes.set_xlabel(sweep)
        axes.set_ylim(bottom=0)
    all_axes[0].set_ylabel("seconds, int8")
    all_axes[0].legend(fontsize="small")
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=110)
    plt.close(figure)
