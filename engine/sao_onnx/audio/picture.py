"""A picture of a sound: its waveform above its spectrogram. Needs the extra `plot`."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from sao_onnx.audio.recording import Recording
from sao_onnx.errors import MissingExtraError, RequestError
from sao_onnx.places import expand_home
from sao_onnx.writing import write_whole

PICTURE_SUFFIXES = (".png", ".svg", ".pdf")
"""Suffixes of the files that a picture can be drawn into."""

FLOOR = -90.0
"""The quietest level that a spectrogram shows, in decibels relative to its loudest."""


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
        RequestError: The file has another suffix.
        MissingExtraError: matplotlib is not installed.
        OutputExistsError: The file exists and `overwrite` is false.
        FileError: The file cannot be written.
    """
    path = expand_home(path)
    require_plotting(path)
    drawn = io.BytesIO()
    draw(clip, _title(clip) if title is None else title).savefig(drawn, format=path.suffix.lower()[1:], dpi=120)
    write_whole(path, drawn.getvalue(), overwrite=overwrite)
    return path


def draw(clip: Recording, title: str) -> Any:
    """Draw a clip.

    Args:
        clip: What is drawn.
        title: Text above the picture.

    Returns:
        A figure of matplotlib.
    """
    # Not pyplot, which keeps figures and looks for a screen.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1, 2))
    frames = clip.samples.shape[1]
    times = np.arange(frames) / clip.sample_rate
    for channel, colour in zip(clip.samples, ("#1f6f8b", "#e08e45"), strict=False):
        above.plot(times, channel, color=colour, linewidth=0.4, alpha=0.8)
    above.set(ylim=(-1.05, 1.05), ylabel="amplitude")
    above.set_title(title, parse_math=False)  # A prompt is no formula.
    decibels, seconds, hertz = spectrogram(clip.samples.mean(axis=0), clip.sample_rate)
    below.pcolormesh(seconds, hertz, decibels, vmin=FLOOR, vmax=0, cmap="magma", shading="auto", rasterized=True)
    below.set(
        yscale="log", ylim=(40, clip.sample_rate / 2), xlim=(0, frames / clip.sample_rate), xlabel="seconds", ylabel="hertz"
    )
    return figure


def _title(clip: Recording) -> str:
    """Prompt and seed of a `Clip`, which this module cannot import; "" for other sounds."""
    provenance = getattr(clip, "provenance", None)
    return "" if provenance is None else f"{provenance.prompt}   (seed {getattr(clip, 'seed', 'unknown')})"


def spectrogram(
    samples: np.ndarray[tuple[int], np.dtype[np.float32]], sample_rate: int, size: int = 2048
) -> tuple[np.ndarray[tuple[int, int], np.dtype[np.float64]], ...]:
    """Magnitude spectrogram of Hann windows, three quarters of which overlap.

    The component at 0 Hz is left out, because a logarithmic axis has no place for it.

    Args:
        samples: float32 [frames].
        sample_rate: In hertz.
        size: Frames in a window.

    Returns:
        Levels in decibels relative to the loudest, float64 [size // 2, n], at least `FLOOR`; the middle of each window in
        seconds, [n]; and the frequencies in hertz, [size // 2].
    """
    padded = np.pad(samples.astype(np.float64), (size // 2, size))
    windows = np.lib.stride_tricks.sliding_window_view(padded, size)[:: size // 4]
    magnitudes = np.abs(np.fft.rfft(windows * np.hanning(size)))[:, 1:].T
    decibels = 20 * np.log10(np.maximum(magnitudes / max(magnitudes.max(), 1e-12), 10 ** (FLOOR / 20)))
    return (
        decibels,
        np.arange(magnitudes.shape[1]) * (size // 4) / sample_rate,
        np.arange(1, size // 2 + 1) * sample_rate / size,
    )
