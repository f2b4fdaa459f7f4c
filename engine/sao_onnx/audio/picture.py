"""A picture of a clip: its waveform above its spectrogram. Needs the extra `plot`."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from sao_onnx.audio.files import write_whole
from sao_onnx.clip import Clip
from sao_onnx.errors import MissingExtraError, RequestError

FORMATS = (".png", ".svg", ".pdf")
FLOOR = -90.0
"""Decibels below the loudest that are drawn as nothing."""


def require_plotting(path: Path) -> None:
    """See before the work that a picture can be drawn.

    Raises:
        RequestError: The suffix is none of `FORMATS`.
        MissingExtraError: matplotlib is not installed.
    """
    if path.suffix.lower() not in FORMATS:
        raise RequestError(f"pictures cannot be drawn as {path.suffix or path.name!r}; known: {', '.join(FORMATS)}")
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("drawing", "matplotlib", "plot") from error


def plot(clip: Clip, path: str | Path, *, overwrite: bool = False) -> Path:
    """Draw a clip into a file: .png, .svg or .pdf.

    Returns:
        The path.

    Raises:
        RequestError: Another suffix.
        MissingExtraError: matplotlib is not installed.
        OutputExistsError: The file exists and `overwrite` is not set.
        AudioFileError: It cannot be written.
    """
    path = Path(path).expanduser()
    require_plotting(path)
    # Not pyplot, which keeps figures and looks for a screen.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1, 2))
    times = np.arange(clip.samples.shape[1]) / clip.sample_rate
    for channel, colour in zip(clip.samples, ("#1f6f8b", "#e08e45"), strict=False):
        above.plot(times, channel, color=colour, linewidth=0.4, alpha=0.8)
    above.set(ylim=(-1.05, 1.05), ylabel="amplitude", title=f"{clip.recipe.prompt}   (seed {clip.seed})")
    decibels, seconds, hertz = spectrogram(clip.samples.mean(axis=0), clip.sample_rate)
    below.pcolormesh(seconds, hertz, decibels, vmin=FLOOR, vmax=0, cmap="magma", shading="auto", rasterized=True)
    below.set(yscale="log", ylim=(40, clip.sample_rate / 2), xlim=(0, clip.seconds), xlabel="seconds", ylabel="hertz")
    drawn = io.BytesIO()
    figure.savefig(drawn, format=path.suffix.lower()[1:], dpi=120)
    write_whole(path, drawn.getvalue(), overwrite=overwrite)
    return path


def spectrogram(
    samples: np.ndarray[tuple[int], np.dtype[np.float32]], sample_rate: int, size: int = 2048
) -> tuple[np.ndarray[tuple[int, int], np.dtype[np.float64]], ...]:
    """Decibels below the loudest, [size // 2, n]; the middle of each window in seconds, [n]; and hertz, [size // 2].

    Hann windows of `size` frames, three quarters overlapping; the constant part is left out, which a logarithmic axis has no
    place for.
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
