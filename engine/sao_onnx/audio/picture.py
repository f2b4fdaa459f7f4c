"""A picture of a sound: its waveform above its spectrogram. Needs the extra `plot`."""

from __future__ import annotations

import io
import itertools
import textwrap
from collections.abc import Mapping
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
"""For characters that no font of the system has, some of which cannot even be asked for."""

BOXES = "Last Resort"
"""A font that comes with matplotlib and has a box for every character."""

SIDES: Mapping[int, tuple[str, ...]] = {1: ("mono",), 2: ("left", "right")}
"""What the waveforms of one and two channels are called; of more, they are numbered."""

COLOURS = ("#1f6f8b", "#e08e45")
"""Of the waveforms, by turns."""

HERTZ: Mapping[float, str] = {10: "10", 100: "100", 1000: "1k", 10_000: "10k", 100_000: "100k"}
"""The marks of the axis of frequencies."""

MOST = 8
"""Waveforms of a picture; further channels are in the spectrogram alone."""

FEW = 200
"""Frames that are marked one by one: a line through fewer than two is not seen."""


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
    from matplotlib.ticker import NullFormatter

    if clip.samples.ndim != 2 or not clip.samples.size or not np.isfinite(clip.samples).all():
        raise RequestError(f"a sound of shape {clip.samples.shape} cannot be drawn, expected finite samples [channels, frames]")
    channels, frames = clip.samples.shape
    rows = min(channels, MOST)
    figure = Figure(figsize=(10, 3.5 + rows), layout="constrained")
    *above, below = figure.subplots(rows + 1, 1, sharex=True, height_ratios=(*[1] * rows, 3))
    names = SIDES.get(channels) or [f"channel {number}" for number in range(1, rows + 1)]
    for axes, channel, name, colour in zip(above, clip.samples, names, itertools.cycle(COLOURS), strict=False):
        places, levels = outline(channel)
        axes.plot(places / clip.sample_rate, levels, color=colour, linewidth=0.4, marker="." if frames <= FEW else "")
        axes.set(ylim=(-1.05, 1.05), ylabel=name)
    _write_title(above[0], title)
    decibels, seconds, hertz = spectrogram(clip.samples, clip.sample_rate)
    mesh = below.pcolormesh(seconds, hertz, decibels, vmin=FLOOR, vmax=0, cmap="magma", shading="auto", rasterized=True)
    lowest, highest = min(40, clip.sample_rate / 8), clip.sample_rate / 2
    below.set(yscale="log", ylim=(lowest, highest), xlim=(0, frames / clip.sample_rate), xlabel="seconds", ylabel="hertz")
    marks = {at: name for at, name in HERTZ.items() if lowest <= at <= highest}
    below.set_yticks(list(marks), list(marks.values()))
    below.yaxis.set_minor_formatter(NullFormatter())
    figure.colorbar(mesh, ax=below, pad=0.01, label="dB below the loudest")
    return figure


def _title(clip: Recording) -> str:
    """Prompt and seed of a `Clip`, which this module cannot import; "" for other sounds."""
    provenance = getattr(clip, "provenance", None)
    # The seed has a line of its own, the last one, which is never left out.
    return "" if provenance is None else f"{provenance.prompt}\nseed {getattr(clip, 'seed', 'unknown')}"


def _write_title(axes: Any, title: str) -> None:
    """Write a title of few lines above a picture, in characters that the system's fonts have."""
    from matplotlib import rcParams

    lines = [part for line in title.splitlines() for part in textwrap.wrap(line, LINE) or [""]]
    if len(lines) > LINES:
        lines = [*lines[: LINES - 2], "…", lines[-1]]
    families, missing = _fonts({character for line in lines for character in line})
    written = "\n".join("".join(NO_GLYPH if c in missing else c for c in line) for line in lines)
    # A prompt is no formula, whatever its $, _ and ^ look like.
    axes.set_title(written, parse_math=False, usetex=False, fontfamily=[*rcParams["font.family"], *families])


def _fonts(characters: set[str]) -> tuple[list[str], set[str]]:
    """Fonts for the characters that the usual font lacks, and the characters that no font of the system has."""
    from matplotlib import font_manager

    usual = font_manager.findfont(font_manager.FontProperties())
    missing, families = _lacking(usual, characters), []
    for entry in sorted(font_manager.fontManager.ttflist, key=lambda entry: entry.name):
        if not missing:
            break
        if entry.name.startswith(BOXES) or entry.name in families:
            continue
        # Upright and plain, because that is what the name alone will find.
        plain = entry.style == entry.variant == "normal" and entry.weight in (400, "normal")
        if plain and (rest := _lacking(entry.fname, missing)) != missing:
            families.append(entry.name)
            missing = rest
    return families, missing


def _lacking(font: str, characters: set[str]) -> set[str]:
    """Those of the characters that a font's file does not have; all of them if it cannot be read."""
    from matplotlib import font_manager

    try:
        glyphs = font_manager.get_font(font)
    except (OSError, RuntimeError):  # Removed since the list was made; or a font of pictures, as many of emojis are.
        return characters
    return {character for character in characters if not glyphs.get_char_index(ord(character))}


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
    """Spectrogram of Hann windows, three quarters of which overlap; less where there would be too many.

    It shows the mean power of the channels, so that channels of opposite phase do not cancel. The component at 0 Hz is left
    out, because a logarithmic axis has no place for it.

    Args:
        samples: float32 [channels, frames] or [frames].
        sample_rate: In hertz.
        size: Frames in a window.

    Returns:
        Levels in decibels relative to the loudest, float64 [size // 2, n], at least `FLOOR`; the middle of each window in
        seconds, [n], about `COLUMNS` at most; and the frequencies in hertz, [size // 2].
    """
    channels = np.atleast_2d(samples)
    step = max(size // 4, -(-channels.shape[1] // COLUMNS))
    power = _power(channels[0], size, step)
    for channel in channels[1:]:  # One after the other: a file may have hundreds of channels.
        power += _power(channel, size, step)
    levels = power / max(power.max(), 1e-24)
    return (
        10 * np.log10(np.maximum(levels, 10 ** (FLOOR / 10))),
        np.arange(levels.shape[1]) * step / sample_rate,
        np.arange(1, size // 2 + 1) * sample_rate / size,
    )


def _power(channel: Samples, size: int, step: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Power of a channel's windows, [size // 2, n]."""
    padded = np.pad(channel, (size // 2, size))
    windows = np.lib.stride_tricks.sliding_window_view(padded, size)[::step]
    return np.asarray(np.abs(np.fft.rfft(windows * np.hanning(size)))[:, 1:].T ** 2)
