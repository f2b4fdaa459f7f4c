"""Draws what the model makes: a few clips, waveform above and spectrogram below; or all kinds beside the synthesizer's own.

python -m models.sao_tiny.picture models/sao_tiny/clips.png
python -m models.sao_tiny.picture models/sao_tiny/kinds.png --kinds
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image

import sao_onnx
from models.sao_tiny import listen
from models.sao_tiny.requests import KINDS, WINDOW, Sound, describe, note_name, render
from models.sao_tiny.signals import SAMPLE_RATE
from models.sao_tiny.sounds import LOOPS, TONES
from sao_onnx.audio.picture import FLOOR, spectrogram

PROMPTS = (
    "120 BPM drum loop",
    "A4 saw wave, long",
    "bell at C5, on the left",
    "ocean waves",
    "laser shot",
    "telephone ringing",
)
SEED = 1
LEFT, RIGHT = "#1f6f8b", "#e08e45"
LOWEST, HIGHEST = 40.0, 20_000.0
HERTZ = {100: "100", 1000: "1k", 10_000: "10k"}

NOTE, TEMPO = 60, 120
"""Of the tones and the loops in the picture of all kinds."""

COLUMNS, BANDS = 7, 110
"""Of that picture: kinds side by side, and rows of a spectrogram. More would make a file of megabytes."""

BRIEF = 0.7
"""Seconds; of sounds that end sooner, only so much is drawn, in windows of 1024 frames instead of 4096."""

COLOURS = 96

Audio = np.ndarray[Any, np.dtype[np.float32]]
Array = np.ndarray[Any, np.dtype[np.float64]]


def draw(path: Path, model: str) -> None:
    """Generate `PROMPTS` and draw them."""
    engine = sao_onnx.load(model)
    figure, axes = pyplot.subplots(
        2, len(PROMPTS), figsize=(18, 5), height_ratios=(1, 2), sharex="col", sharey="row", layout="constrained"
    )
    for prompt, (above, below) in zip(PROMPTS, axes.T, strict=True):
        clip = engine.generate(prompt, seed=SEED)
        # Above the line the left channel, below it the right one: neither hides the other.
        low, high = _extremes(np.abs(clip.samples))
        seconds = np.linspace(0, clip.seconds, len(low))
        above.fill_between(seconds, 0, low, color=LEFT, linewidth=0)
        above.fill_between(seconds, 0, -high, color=RIGHT, linewidth=0)
        above.set(title=f"“{prompt}”", ylim=(-1, 1), yticks=[-1, 0, 1], yticklabels=["1", "0", "1"])
        above.axhline(0, color="black", linewidth=0.4)
        decibels, places, hertz = spectrogram(clip.samples.mean(axis=0), clip.sample_rate)
        mesh = below.pcolormesh(places, hertz, decibels, vmin=FLOOR, vmax=0, cmap="magma", shading="auto", rasterized=True)
        below.set(xlabel="seconds", xlim=(0, clip.seconds))
    _hertz(axes[1, 0])
    axes[0, 0].set_ylabel("peak")
    legend = [Patch(color=LEFT, label="left (up)"), Patch(color=RIGHT, label="right (down)")]
    axes[0, -1].legend(handles=legend, loc="upper right", framealpha=0.9)
    figure.colorbar(mesh, ax=axes[1, :], pad=0.01, label="dB below the loudest")
    _save(figure, path, dpi=80)


def _extremes(samples: Audio, width: int = 256) -> Audio:
    """The largest of every `width` frames, of both channels."""
    count = samples.shape[1] // width
    return np.asarray(samples[:, : count * width].reshape(2, count, width).max(axis=2))


def draw_kinds(path: Path, model: str) -> None:
    """Draw a spectrogram of every kind, generated, and beside it that of the synthesizer's own sound for the same request."""
    engine = sao_onnx.load(model)
    rows = -(-len(KINDS) // COLUMNS)
    figure = pyplot.figure(figsize=(17, 2.3 * rows + 0.6), layout="constrained")
    above, below = np.array(figure.subfigures(2, 1, height_ratios=(2.3 * rows, 0.6)))
    parts: np.ndarray[Any, Any] = np.array(above.subfigures(rows, COLUMNS, wspace=0.02))
    for index, (kind, part) in enumerate(zip(KINDS, parts.flat, strict=False)):
        sound = request(kind)
        prompt = describe(np.random.default_rng(index), sound)
        made = engine.generate(prompt, seconds=sound.seconds, seed=SEED, full_window=True).samples
        true = render(np.random.default_rng(index), sound)
        brief = listen.end(true) < BRIEF
        size = 1024 if brief else 4096
        part.suptitle(kind, fontsize=11, fontweight="bold")
        axes = part.subplots(1, 2, sharey=True)
        for axis, audio, title in zip(axes, (made, true), ("model", "synthesizer"), strict=True):
            decibels, edges = bands(audio, size)
            seconds = np.arange(decibels.shape[1] + 1) * (size // 4) / SAMPLE_RATE
            mesh = axis.pcolormesh(seconds, edges, decibels, vmin=FLOOR, vmax=0, cmap="magma", rasterized=True)
            axis.set(xticks=[0, 0.5] if brief else [0, 2, 4], xlim=(0, BRIEF if brief else WINDOW / SAMPLE_RATE))
            axis.set_title(title, fontsize=8, pad=2)
            axis.tick_params(labelsize=7)
        axes[1].minorticks_off()
        _hertz(axes[0], label=index % COLUMNS == 0)
    bar = figure.colorbar(mesh, cax=below.subplots(), orientation="horizontal")
    asked = f"tones at {note_name(NOTE)}, loops at {TEMPO} BPM, seed {SEED}"
    bar.set_label(f"dB below the loudest ({asked}; seconds to the right, hertz upwards)")
    _save(figure, path, dpi=100)


def request(kind: str) -> Sound:
    """What the picture of all kinds asks for: a kind without adjectives, as long as the window."""
    return Sound(kind, WINDOW / SAMPLE_RATE, note=NOTE * (kind in TONES), tempo=TEMPO * (kind in LOOPS))


def bands(audio: Audio, size: int) -> tuple[Array, Array]:
    """Decibels below the loudest in bands of equal width on a logarithmic axis, [bands, n], and the edges in hertz.

    Windows of `size` frames, a quarter apart.
    """
    decibels, _, hertz = spectrogram(audio.mean(axis=0), SAMPLE_RATE, size)
    power = np.where(decibels > FLOOR, 10 ** (decibels / 10), 0.0)
    edges = np.geomspace(LOWEST, HIGHEST, BANDS + 1)
    at = (edges[:-1] * edges[1:]) ** 0.5
    places = np.searchsorted(hertz, edges)
    # Bands narrower than a bin take what lies around them.
    rows = [
        power[a:b].mean(axis=0) if b > a else power[int(np.abs(hertz - middle).argmin())]
        for a, b, middle in zip(places[:-1], places[1:], at, strict=True)
    ]
    found = np.stack(rows)
    return np.asarray(10 * np.log10(np.maximum(found / max(found.max(), 1e-12), 10 ** (FLOOR / 10)))), edges


def _hertz(axis: Axes, label: bool = True) -> None:
    """A logarithmic axis that is read at a glance."""
    axis.set(yscale="log", ylim=(LOWEST, HIGHEST))
    axis.set_yticks(list(HERTZ), list(HERTZ.values()))
    axis.minorticks_off()
    if label:
        axis.set_ylabel("hertz")


def _save(figure: Figure, path: Path, dpi: int) -> None:
    """Write it in few colours, a third of the size."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=dpi)
    image = Image.open(drawn).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    image.save(path, optimize=True)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Draw what the model makes.")
    parser.add_argument("path", type=Path, help="a .png file")
    parser.add_argument("--model", default="sao-tiny")
    parser.add_argument("--kinds", action="store_true", help="every kind, beside the synthesizer's own sound")
    arguments = parser.parse_args()
    (draw_kinds if arguments.kinds else draw)(arguments.path, arguments.model)


if __name__ == "__main__":
    main()
