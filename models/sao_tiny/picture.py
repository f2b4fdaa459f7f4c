"""Draws what the model makes of a few prompts: waveform above, spectrogram below.

python -m models.sao_tiny.picture models/sao_tiny/clips.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot

import sao_onnx
from sao_onnx.picture import FLOOR, spectrogram

PROMPTS = (
    "120 BPM drum loop",
    "A4 saw wave, long",
    "bell at C5, on the left",
    "ocean waves",
    "laser shot",
    "telephone ringing",
)
SEED = 1


def draw(path: Path, model: str) -> None:
    """Generate and draw."""
    engine = sao_onnx.load(model)
    figure, axes = pyplot.subplots(2, len(PROMPTS), figsize=(16, 4), height_ratios=(1, 2), sharex=True, layout="constrained")
    for prompt, (above, below) in zip(PROMPTS, axes.T, strict=True):
        clip = engine.generate(prompt, seed=SEED)
        times = np.arange(clip.samples.shape[1]) / clip.sample_rate
        left, right = clip.samples
        above.fill_between(times, 0, left, color="#1f6f8b", linewidth=0.2, label="left")
        above.fill_between(times, 0, -np.abs(right), color="#e08e45", linewidth=0.2, alpha=0.7, label="right")
        above.set(title=f"“{prompt}”", ylim=(-1, 1), yticks=[])
        decibels, seconds, hertz = spectrogram(clip.samples.mean(axis=0), clip.sample_rate)
        below.pcolormesh(seconds, hertz, decibels, vmin=FLOOR, vmax=0, cmap="magma", shading="auto", rasterized=True)
        below.set(yscale="log", ylim=(40, 20_000), xlabel="seconds")
        if below is not axes[1, 0]:
            below.set(yticks=[])
    axes[1, 0].set_ylabel("hertz")
    figure.savefig(path, dpi=80)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Draw a few clips.")
    parser.add_argument("path", type=Path)
    parser.add_argument("--model", default="sao-tiny")
    arguments = parser.parse_args()
    draw(arguments.path, arguments.model)


if __name__ == "__main__":
    main()
