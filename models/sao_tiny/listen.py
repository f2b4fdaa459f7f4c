"""What a clip is, by signal processing alone: its pitch, its tempo, where it stands, when it ends. NumPy only.

Audio is float [2, frames] at 44.1 kHz throughout.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from models.sao_tiny.signals import SAMPLE_RATE

Audio = np.ndarray[Any, np.dtype[Any]]
Array = np.ndarray[Any, np.dtype[np.float64]]

QUIET = 10 ** (-40 / 20)
"""A clip has ended where nothing comes within 40 dB of its peak any more."""


def louder_channel(audio: Audio) -> Array:
    """The channel with more energy, float64 [frames]."""
    return np.asarray(audio[int(np.argmax(np.square(audio).sum(axis=1)))], np.float64)


def pitch(audio: Audio) -> float:
    """Fundamental of a steady tone in hertz, between 55 and 2400.

    The pitch whose harmonics, each weighing less than the one below, collect most of the magnitude spectrum.
    """
    signal = louder_channel(audio)
    loud = np.flatnonzero(np.abs(signal) > 0.2 * np.abs(signal).max())
    start = int(loud[0]) + 800
    end = min(int(loud[-1]), start + SAMPLE_RATE)
    excerpt = signal[start : max(end, start + 4096)]
    size = 1 << 18
    spectrum = np.abs(np.fft.rfft(excerpt * np.hanning(len(excerpt)), size))
    bins = np.arange(len(spectrum))

    def strength(candidates: Array) -> Array:
        ranks = np.arange(1, 11)
        places = candidates[:, None] * ranks * size / SAMPLE_RATE
        return np.asarray((np.interp(places, bins, spectrum) * 0.84**ranks).sum(axis=1))

    cents = np.arange(0, 1200 * np.log2(2400 / 55), 5)
    coarse = 55 * 2 ** (cents / 1200)
    best = coarse[int(np.argmax(strength(coarse)))]
    fine = best * 2 ** (np.arange(-10, 10.5, 0.5) / 1200)
    return float(fine[int(np.argmax(strength(fine)))])


def tempo(audio: Audio) -> float:
    """Beats a minute of a loop that begins on a beat, between 65 and 190.

    A tempo is good if its beats are strokes, and strokes are its beats: a grid of beats is laid over the onsets of the low
    drums. Half the tempo would leave strokes between beats, twice the tempo beats without strokes.
    """
    signal = louder_channel(audio)
    hop, size = 128, 1024
    padded = np.pad(signal, (size // 2, size))
    windows = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    energy = np.abs(np.fft.rfft(windows * np.hanning(size)))[:, 1:16].sum(axis=1)
    level = np.log1p(30 * energy / (energy.max() + 1e-12))
    rise = np.maximum(0, level[6:] - level[:-6])
    # Each onset as its peak, spread over about 12 ms on either side.
    peaks = np.where((rise > 0.12 * rise.max()) & (rise >= _widest(rise, 12)), rise, 0.0)
    spread = _widest(peaks, 4)
    rate = SAMPLE_RATE / hop
    last = np.flatnonzero(peaks)[-1] if peaks.any() else 0
    best, found = -1.0, 0.0
    for candidate in np.arange(65, 190.01, 0.25):
        beats = np.arange(0, last + 1, 60 * rate / candidate)
        for offset in range(-4, 12, 2):
            places = np.round(beats + offset).astype(int)
            places = places[(places >= 0) & (places < len(spread))]
            if len(places) < 3:
                continue
            on = spread[places]
            share = min(1.0, on.sum() / (peaks.sum() + 1e-12))
            filled = on.mean() / (np.quantile(peaks[peaks > 0], 0.75) + 1e-12)
            if share * min(filled, 1.0) > best:
                best, found = share * min(filled, 1.0), float(candidate)
    return found


def _widest(values: Array, reach: int) -> Array:
    """Running maximum over `reach` places on both sides."""
    padded = np.pad(values, reach)
    return np.asarray(np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1).max(axis=1))


def side(audio: Audio) -> float:
    """Decibels by which the left channel is louder than the right."""
    left, right = np.sqrt(np.square(np.asarray(audio, np.float64)).mean(axis=1)) + 1e-9
    return float(20 * np.log10(left / right))


def end(audio: Audio) -> float:
    """Seconds after which the clip stays `QUIET`."""
    heard = np.flatnonzero(np.abs(audio).max(axis=0) > QUIET * np.abs(audio).max())
    return float(heard[-1] + 1) / SAMPLE_RATE if len(heard) else 0.0


def level_after(audio: Audio, seconds: float) -> float:
    """Root mean square after `seconds`, in decibels against the loudest tenth of a second."""
    mono = np.square(np.asarray(audio, np.float64)).mean(axis=0)
    tail = mono[round(seconds * SAMPLE_RATE) :]
    width = SAMPLE_RATE // 10
    loudest = mono[: len(mono) // width * width].reshape(-1, width).mean(axis=1).max()
    return float(10 * np.log10((tail.mean() + 1e-12) / (loudest + 1e-12))) if len(tail) else -np.inf


def si_sdr(estimate: Audio, audio: Audio) -> float:
    """Scale-invariant signal-to-distortion ratio in decibels. Le Roux et al., "SDR - half-baked or well done?" (2019)."""
    a, b = np.asarray(estimate, np.float64).ravel(), np.asarray(audio, np.float64).ravel()
    target = b * (a @ b) / (b @ b + 1e-12)
    return float(10 * np.log10((target @ target + 1e-12) / (np.square(a - target).sum() + 1e-12)))


def stft_distance(estimate: Audio, audio: Audio) -> float:
    """Mean absolute difference of log magnitudes, in decibels, over windows of 2048, 512 and 128 frames.

    Magnitudes more than 80 dB below the loudest of the original count as equal.
    """
    distances = []
    for size in (2048, 512, 128):
        ours, theirs = (_magnitudes(x, size) for x in (estimate, audio))
        floor = 1e-4 * theirs.max() + 1e-12
        distances.append(np.abs(20 * np.log10(np.maximum(ours, floor) / np.maximum(theirs, floor))).mean())
    return float(np.mean(distances))


def _magnitudes(audio: Audio, size: int) -> Array:
    windows = np.lib.stride_tricks.sliding_window_view(np.asarray(audio, np.float64), size, axis=-1)[:, :: size // 2]
    return np.abs(np.fft.rfft(windows * np.hanning(size)))
