"""What sounds are made of: oscillators, envelopes, filters, a room. NumPy arrays in, NumPy arrays out.

All signals are float64 [frames] at `SAMPLE_RATE`. Filters are drawn over the spectrum of the whole signal: no state, no loops.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]

SAMPLE_RATE = 44_100
_TABLE = 8192

GRID = 1024
"""Frames between the places where strokes may begin: two latents of the model, so that all strokes of a drum have the same
latents but for their place."""

REPEAT = 64 * GRID
"""Frames after which every held wave repeats, whatever its pitch, and so do its latents: what is to be learned of a pitch is
a pattern of that length, and not where its phase has come to in the whole window."""


class Chance(np.random.Generator):
    """A generator of what a sound is like, and apart from it `noise`, the generator of the noise in it.

    The same seed with another take is the same sound with other noise.
    """

    def __init__(self, seed: int, take: int) -> None:
        super().__init__(np.random.PCG64(seed))
        self.noise = np.random.default_rng((seed, take))


def frames(seconds: float) -> int:
    """Whole frames in `seconds`, at least one."""
    return max(1, round(seconds * SAMPLE_RATE))


def tuned(hertz: float) -> float:
    """The nearest frequency whose wave is the same again after `REPEAT` frames: every 0.67 Hz there is one."""
    step = SAMPLE_RATE / REPEAT
    return max(1, round(hertz / step)) * step


def times(count: int) -> Array:
    """Seconds of each frame, from 0."""
    return np.arange(count) / SAMPLE_RATE


def phase(hertz: Array | float, count: int) -> Array:
    """Turns (not radians) of an oscillator that starts at 0; `hertz` may change from frame to frame."""
    if isinstance(hertz, np.ndarray):
        return np.concatenate([[0.0], np.cumsum(hertz[:-1])]) / SAMPLE_RATE
    return times(count) * hertz


def sine(hertz: Array | float, count: int) -> Array:
    """A sine."""
    return np.sin(2 * np.pi * phase(hertz, count))


def harmonics(hertz: Array | float, count: int, weights: Array) -> Array:
    """Sines at whole multiples of a pitch, `weights[k - 1]` for multiple k; those above half the sample rate are left out."""
    highest = float(np.max(hertz))
    usable = weights[: max(1, min(len(weights), int(0.48 * SAMPLE_RATE / highest)))]
    spectrum = np.zeros(_TABLE // 2 + 1, dtype=complex)
    spectrum[1 : len(usable) + 1] = -0.5j * _TABLE * usable
    table = np.fft.irfft(spectrum, _TABLE)
    found = np.interp(phase(hertz, count) % 1.0 * _TABLE, np.arange(_TABLE + 1), np.append(table, table[0]))
    return np.asarray(found)


def attack(count: int, seconds: float) -> Array:
    """Rises from 0 to 1 in `seconds`, then stays."""
    return np.minimum(1.0, times(count) / max(seconds, 1e-4))


def decay(count: int, seconds: float) -> Array:
    """Falls exponentially, by 60 dB in `seconds`."""
    return np.exp(-6.908 * times(count) / seconds)


def fade_ends(signal: Array, rise: float, fall: float) -> Array:
    """Both ends brought to 0, in so many seconds."""
    count = len(signal)
    return signal * attack(count, rise) * attack(count, fall)[::-1]


def white(rng: Chance, count: int) -> Array:
    """Noise of unit variance."""
    return rng.noise.standard_normal(count)


def filtered(signal: Array, gain: Any) -> Array:
    """The signal with `gain(hertz)` over its spectrum. The signal is taken as if silence stood around it."""
    size = 1 << (len(signal) - 1).bit_length()
    hertz = np.fft.rfftfreq(size, 1 / SAMPLE_RATE)
    return np.fft.irfft(np.fft.rfft(signal, size) * gain(hertz), size)[: len(signal)]


def low_pass(signal: Array, corner: float, order: float = 2) -> Array:
    """Falls by 6 dB an octave and order above `corner` hertz."""
    return filtered(signal, lambda f: (1 + (f / corner) ** 2) ** (-order / 2))


def high_pass(signal: Array, corner: float, order: float = 2) -> Array:
    """Falls by 6 dB an octave and order below `corner` hertz."""
    return filtered(signal, lambda f: (1 + (corner / np.maximum(f, 1e-3)) ** 2) ** (-order / 2))


def band_pass(signal: Array, centre: float, octaves: float) -> Array:
    """A bell of so many octaves, on a logarithmic axis, around `centre` hertz."""
    return filtered(signal, lambda f: np.exp(-0.5 * (np.log2(np.maximum(f, 1.0) / centre) / (0.5 * octaves)) ** 2))


def tilted(signal: Array, decibels: float) -> Array:
    """Tilts the spectrum around 1 kHz, by so many decibels an octave, within two octaves below and three above."""
    return filtered(signal, lambda f: 10 ** (decibels / 20 * np.clip(np.log2(np.maximum(f, 1.0) / 1000), -2, 3)))


def to_peak(signal: Array, peak: float = 1.0) -> Array:
    """Scaled to a peak. Silence stays silence."""
    found = float(np.abs(signal).max(initial=0.0))
    return signal * (peak / found) if found > 1e-9 else signal


def to_level(signal: Array, level: float) -> Array:
    """Scaled so that its loudest fifth of a second has the root mean square `level`, but to a peak of 0.95 at most."""
    width = min(len(signal), frames(0.2))
    sums = np.concatenate([[0.0], np.cumsum(np.square(signal))])
    loudest = np.sqrt(float((sums[width:] - sums[:-width]).max()) / frames(0.2))
    return to_peak(signal, min(0.95, level * float(np.abs(signal).max(initial=0.0)) / max(loudest, 1e-9)))


def put(track: Array, sound: Array, start: float, gain: float = 1.0, grid: int = 1) -> None:
    """Add a sound to a track from `start` seconds on, or the nearest multiple of `grid` frames. What is too long is cut off."""
    first = round(start * SAMPLE_RATE / grid) * grid
    room = len(track) - first
    if room > 0:
        track[first : first + len(sound)] += gain * sound[:room]


def room(signal: Array, seconds: float) -> Array:
    """The answer of a room that rings for `seconds`: the signal convolved with fading noise, as loud as the signal.

    It is the same room every time.
    """
    count = frames(min(seconds, 1.2))
    answer = low_pass(np.random.default_rng(0).standard_normal(count), 3000) * decay(count, seconds)
    answer /= np.sqrt(np.square(answer).sum())
    size = 1 << (len(signal) + count - 1).bit_length()
    return np.fft.irfft(np.fft.rfft(signal, size) * np.fft.rfft(answer, size), size)[: len(signal)]
