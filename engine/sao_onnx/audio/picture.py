"""A picture of a sound: its waveform above its spectrogram. Needs the extra `plot`."""

from __future__ import annotations

import io
import textwrap
from pathlib import Path
from typing import Any

import numpy as np

from sao_onnx.audio.recording import Recording
from sao_onnx.errors import FileError, MissingExtraError, RequestError, SaoOnnxError
from sao_onnx.places import expand_home
from sao_onnx.writing import write_whole

Samples = np.ndarray[Any, np.dtype[np.float32]]

PICTURE_SUFFIXES = (".png", ".svg", ".pdf")
"""Suffixes of the files that a picture can be drawn into."""

FLOOR = -90.0
"""The quietest level that a spectrogram shows, in decibels relative to its loudest."""

COLUMNS = 2000
"""Of a picture at most, more than a screen has: a long clip costs no more than a short one."""

LINE, LINES = 80, 4
"""Characters of a line of the title, and lines; of a longer title the middle is left out."""

NO_GLYPH = "□"
"""For characters that the font does not have, some of which cannot even be asked for."""


def require_plotting(path: Path) -> None:
    """Check, before work begins, that a picture can be drawn into a file.

    Raises:
        RequestError: The suffix is none of `PICTURE_SUFFIXES`.
        MissingExtraError: matplotlib is not installed.
    """
    if path.suffix.lower() not in PICTURE_SUFFIXES:
        raise RequestError(f"pictures cannot be drawn as {path.suffix or path.name!r}; known: {', '.join(PICTURE_SUFFIXES)}")
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("drawing", "matplotlib", "plot") from error


def plot(clip: Recording, path: str | Path, *, title: str | None = None, overwrite: bool = False) -> Path:
    """Draw a clip into a file.

    Args:
        clip: A `Clip`, or any object with `samples` and `sample_rate`.
        path: The file: .png, .svg or .pdf.
        title: Text above the picture; by default the prompt and the seed of a `Clip`.
        overwrite: Replace the file if it exists.

    Returns:
        The path.

    Raises:
        RequestError: The file has another suffix, or there is nothing to draw.
        MissingExtraError: matplotlib is not installed.
        OutputExistsError: The file exists and `overwrite` is false.
        FileError: The file cannot be written, or matplotlib cannot draw.
    """
    path = expand_home(path)
    require_plotting(path)
    drawn = io.BytesIO()
    try:
        draw(clip, _title(clip) if title is None else title).savefig(drawn, format=path.suffix.lower()[1:], dpi=120)
    except SaoOnnxError:
        raise
    except (ArithmeticError, OSError, RuntimeError, TypeError, ValueError) as error:  # Fonts, styles of the user, ...
        reason = " ".join(str(error).split()) or type(error).__name__
        raise FileError(f"{path} cannot be drawn: {reason}") from error
    write_whole(path, drawn.getvalue(), overwrite=overwrite)
    return path


def draw(clip: Recording, title: str) -> Any:
    """Draw a clip.

    Args:
        clip: What is drawn.
        title: Text above the picture.

    Returns:
        A figure of matplotlib.

    Raises:
        RequestError: The clip has no frames, samples that are not finite, or another shape than [channels, frames].
    """
    # Not pyplot, which keeps figures and looks for a screen.
    from matplotlib.figure import Figure

    if clip.samples.ndim != 2 or not clip.samples.size or not np.isfinite(clip.samples).all():
        raise RequestError(f"a sound of shape {clip.samples.shape} cannot be drawn, expected finite samples [channels, frames]")
    figure = Figure(figsize=(10, 5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1, 2))
    frames = clip.samples.shape[1]
    for channel, colour in zip(clip.samples, ("#1f6f8b", "#e08e45"), strict=False):
        places, levels = outline(channel)
        above.plot(places / clip.sample_rate, levels, color=colour, linewidth=0.4, alpha=0.8)
    above.set(ylim=(-1.05, 1.05), ylabel="amplitude")
    # A prompt is no formula, whatever its $, _ and ^ look like.
    above.set_title(_lines(title), parse_math=False, usetex=False)
    decibels, seconds, hertz = spectrogram(clip.samples.mean(axis=0), clip.sample_rate)
    below.pcolormesh(seconds, hertz, decibels, vmin=FLOOR, vmax=0, cmap="magma", shading="auto", rasterized=True)
    lowest, highest = min(40, clip.sample_rate / 8), clip.sample_rate / 2
    below.set(yscale="log", ylim=(lowest, highest), xlim=(0, frames / clip.sample_rate), xlabel="seconds", ylabel="hertz")
    return figure


def _title(clip: Recording) -> str:
    """Prompt and seed of a `Clip`, which this module cannot import; "" for other sounds."""
    provenance = getattr(clip, "provenance", None)
    return "" if provenance is None else f"{provenance.prompt}   (seed {getattr(clip, 'seed', 'unknown')})"


def _lines(title: str) -> str:
    """A title of few lines, in characters that the font has."""
    from matplotlib import font_manager

    lines = [part for line in title.splitlines() for part in textwrap.wrap(line, LINE) or [""]]
    if len(lines) > LINES:
        lines = [*lines[: LINES - 2], "…", lines[-1]]
    font = font_manager.get_font(font_manager.findfont(font_manager.FontProperties()))
    return "\n".join("".join(c if font.get_char_index(ord(c)) else NO_GLYPH for c in line) for line in lines)


def outline(channel: Samples) -> tuple[np.ndarray[Any, Any], Samples]:
    """A channel as few enough points: itself, or the lowest and the highest sample of each column.

    Args:
        channel: float32 [frames].

    Returns:
        Frames and their samples, [at most twice `COLUMNS`].
    """
    if len(channel) <= 2 * COLUMNS:
        return np.arange(len(channel)), channel
    places = np.arange(0, len(channel), -(-len(channel) // COLUMNS))
    levels = np.stack([np.minimum.reduceat(channel, places), np.maximum.reduceat(channel, places)], axis=1)
    return np.repeat(places, 2), levels.ravel()


def spectrogram(
    samples: Samples, sample_rate: int, size: int = 2048
) -> tuple[np.ndarray[tuple[int, int], np.dtype[np.float64]], ...]:
    """Magnitude spectrogram of Hann windows, three quarters of which overlap; less where there would be too many.

    The component at 0 Hz is left out, because a logarithmic axis has no place for it.

    Args:
        samples: float32 [frames].
        sample_rate: In hertz.
        size: Frames in a window.

    Returns:
        Levels in decibels relative to the loudest, float64 [size // 2, n], at least `FLOOR`; the middle of each window in
        seconds, [n], about `COLUMNS` at most; and the frequencies in hertz, [size // 2].
    """
    step = max(size // 4, -(-len(samples) // COLUMNS))
    padded = np.pad(samples, (size // 2, size))
    windows = np.lib.stride_tricks.sliding_window_view(padded, size)[::step]
    magnitudes = np.abs(np.fft.rfft(windows * np.hanning(size)))[:, 1:].T
    decibels = 20 * np.log10(np.maximum(magnitudes / max(magnitudes.max(), 1e-12), 10 ** (FLOOR / 20)))
    return (
        decibels,
        np.arange(magnitudes.shape[1]) * step / sample_rate,
        np.arange(1, size // 2 + 1) * sample_rate / size,
    )
