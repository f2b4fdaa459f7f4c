"""What a listener hears of a clip beyond what it is: partials, noise between them, slope, attack, floor. NumPy only.

Audio is float [2, frames] at 44.1 kHz throughout; what is measured is the louder channel. A measure that a clip gives no
occasion for (too short, no partials, no quiet places) is NaN.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from models.sao_tiny.listen import louder_channel
from models.sao_tiny.signals import SAMPLE_RATE

Audio = np.ndarray[Any, np.dtype[Any]]
Array = np.ndarray[Any, np.dtype[np.float64]]

HIGHEST_PARTIAL, HIGHEST_NOISE, LOWEST_NOISE = 6_000.0, 12_000.0, 30.0
"""Hertz up to which partials are compared, and between which noise counts."""

FAINTEST_PARTIAL = 45.0
"""Decibels below the strongest partial of the reference beyond which a partial does not count."""

_LOBE = 5
"""Bins on either side of a partial that its window fills: four, and one for a pitch between bins."""

_BLACKMAN_HARRIS = (0.35875, -0.48829, 0.14128, -0.01168)
"""Side lobes 92 dB down. Harris, "On the use of windows for harmonic analysis with the discrete Fourier transform" (1978)."""

_REFERENCE_FLOOR = -55.0
"""Decibels; above that, what a reference has between its partials is part of its sound."""

_QUIET_HOP = SAMPLE_RATE // 100


def harmonics_of(hertz: float, highest: float) -> Array:
    """Whole multiples of a pitch up to `highest` hertz, at least one."""
    return hertz * np.arange(1.0, max(1, int(highest / hertz)) + 1)


def held(audio: Audio) -> slice:
    """Frames from the onset to the end of a held or ringing sound: where its level stays within 12 dB of its loudest.

    The first 30 ms and the last 40 ms are left out, where a sound is faded.
    """
    level = _levels(louder_channel(audio), SAMPLE_RATE // 50)
    loud = np.flatnonzero(level > level.max() / 10**1.2) if level.max() > 0 else np.zeros(1, int)
    width = SAMPLE_RATE // 50
    return slice(int(loud[0]) * width + round(0.03 * SAMPLE_RATE), (int(loud[-1]) + 1) * width - round(0.04 * SAMPLE_RATE))


def _levels(signal: Array, width: int) -> Array:
    """Mean power of each whole stretch of `width` frames."""
    count = max(1, len(signal) // width)
    padded = np.pad(signal, (0, max(0, count * width - len(signal))))
    return np.asarray(np.square(padded[: count * width]).reshape(count, width).mean(axis=1))


def _spectrum(signal: Array, part: slice, spacing: float) -> Array | None:
    """Mean power spectrum of a part of a tone whose partials are `spacing` hertz apart, in windows long enough to part them.

    None if the part is too short: a window must leave a sixth of each gap free.
    """
    excerpt = signal[part]
    size = min(len(excerpt), round(max(24 / spacing, 0.12) * SAMPLE_RATE))
    if size < 12 / spacing * SAMPLE_RATE:
        return None
    turns = 2 * np.pi * np.arange(size) / size
    window = sum(weight * np.cos(rank * turns) for rank, weight in enumerate(_BLACKMAN_HARRIS))
    starts = range(0, len(excerpt) - size + 1, max(1, size // 2))
    power = [np.square(np.abs(np.fft.rfft(excerpt[start : start + size] * window))) for start in starts]
    return np.asarray(np.mean(power, axis=0))


def partial_differences(
    audio: Audio, reference: Audio, partials: Array, highest: float = HIGHEST_PARTIAL, within: float = FAINTEST_PARTIAL
) -> Array:
    """By how many decibels each partial of a tone is louder than the same partial of a reference.

    Args:
        audio: The tone, in time with the reference.
        reference: What it should be.
        partials: Where the partials are, in hertz, ascending.
        highest: Partials above so many hertz do not count.
        within: Nor do those that are so many decibels below the reference's strongest.

    Returns:
        One number for each partial that counts; none if the tone is too short to part them.
    """
    part = held(reference)
    spacing = float(min(partials[0], *np.diff(partials))) if len(partials) > 1 else float(partials[0])
    ours, theirs = (_spectrum(louder_channel(x), part, spacing) for x in (audio, reference))
    if ours is None or theirs is None:
        return np.zeros(0)
    size = 2 * (len(ours) - 1)
    chosen = [round(hertz * size / SAMPLE_RATE) for hertz in partials if hertz <= highest]
    a, b = (np.array([spectrum[max(1, i - _LOBE) : i + _LOBE + 1].sum() for i in chosen]) for spectrum in (ours, theirs))
    counts = b > b.max(initial=0.0) * 10 ** (-within / 10)
    return np.asarray(10 * np.log10((a[counts] + 1e-20) / b[counts]))


def noise_between(audio: Audio, hertz: float, reference: Audio | None = None) -> float:
    """Noise between the partials of a held tone, in decibels against its partials; of a clean tone -60 and less.

    Between `LOWEST_NOISE` and `HIGHEST_NOISE`. What lies between two partials is taken to go on beneath them, so that low
    notes, whose partials leave little between them, are measured like high ones.

    Args:
        audio: The tone.
        hertz: Its fundamental; what it really is, within 60 cents of that, is found here.
        reference: What it should be. Where this has something itself, such as the resonance of a room or aliases of distortion,
            nothing of the clip is called noise.
    """
    part = held(audio)
    spectrum = _spectrum(louder_channel(audio), part, hertz)
    theirs = None if reference is None else _spectrum(louder_channel(reference), part, hertz)
    if spectrum is None:
        return float("nan")
    step = SAMPLE_RATE / (2 * (len(spectrum) - 1))
    hertz = _fundamental(spectrum, hertz, step)
    bins = np.arange(len(spectrum))
    ranks = np.round(bins * step / hertz).astype(int)
    heard = (bins * step >= LOWEST_NOISE) & (bins * step <= HIGHEST_NOISE)
    at_partial = (np.abs(bins * step - ranks * hertz) <= _LOBE * step) & (ranks > 0)
    free = heard & ~at_partial
    if theirs is not None:
        # All that is left of the reference is then `_REFERENCE_FLOOR` below it, or less.
        free &= theirs <= theirs[heard].sum() * 10 ** (_REFERENCE_FLOOR / 10) / heard.sum()
    noise = partials = 0.0
    measured = 0
    for rank in range(ranks[heard].max() + 1):
        around = heard & (ranks == rank)
        density = float(spectrum[around & free].mean()) if (around & free).any() else 0.0
        measured += int(around.sum()) if (around & free).any() else 0
        noise += density * int(around.sum())
        partials += max(0.0, float(spectrum[around & at_partial].sum()) - density * int((around & at_partial).sum()))
    if measured < heard.sum() / 4:
        return float("nan")
    return float(10 * np.log10((noise + 1e-20) / (partials + 1e-20)))


def _fundamental(spectrum: Array, near: float, step: float) -> float:
    """The pitch within 60 cents whose harmonics hold most of the power, to a cent: a hundredth partial asks for no less."""
    cents = np.arange(-60, 60.5, 1)
    candidates = near * 2 ** (cents / 1200)
    ranks = np.arange(1, max(1, int(HIGHEST_NOISE / near)) + 1)
    # The square root, so that many faint high partials, which say most about the pitch, weigh against few strong ones.
    amplitude = np.sqrt(spectrum)
    places = candidates[:, None] * ranks / step
    strength = np.interp(places, np.arange(len(amplitude)), amplitude).sum(axis=1)
    return float(candidates[int(np.argmax(strength))])


def slope(audio: Audio, lowest: float = 100.0, highest: float = 10_000.0) -> float:
    """Spectral slope in decibels an octave: of white noise 0, of pink -3, of brown -6.

    A straight line through the power density of third-octave bands, over a logarithmic axis; each band counts alike.

    Args:
        audio: At least a tenth of a second of sound.
        lowest: Hertz where the first band begins.
        highest: Hertz where the last band ends.
    """
    signal = louder_channel(audio)
    heard = np.flatnonzero(np.abs(signal) > 0.01 * np.abs(signal).max())
    if len(heard) == 0 or heard[-1] - heard[0] < SAMPLE_RATE // 10:
        return float("nan")
    signal = signal[heard[0] : heard[-1] + 1]
    size = 8192
    padded = np.pad(signal, (0, max(0, size - len(signal))))
    windows = np.lib.stride_tricks.sliding_window_view(padded, size)[:: size // 2]
    power = np.square(np.abs(np.fft.rfft(windows * np.hanning(size)))).mean(axis=0)
    edges = np.arange(np.log2(lowest), np.log2(highest) + 1e-9, 1 / 3)
    octaves = np.log2(np.maximum(np.arange(len(power)), 0.5) * SAMPLE_RATE / size)
    density = np.array([power[(octaves >= a) & (octaves < b)].mean() for a, b in itertools.pairwise(edges)])
    return float(np.polyfit((edges[:-1] + edges[1:]) / 2, 10 * np.log10(density + 1e-20), 1)[0])


def attack_time(audio: Audio) -> float:
    """Seconds from the first 10 % to the first 90 % of the peak of the envelope, within the first half a second.

    The envelope is a root mean square over 2 ms, and its peak the loudest 10 ms: the loudest 2 ms of noise come at any time.
    A sound that begins at once takes about 1 ms by this envelope. What creeps in before a stroke counts as part of its attack.
    """
    power = np.square(louder_channel(audio)[: SAMPLE_RATE // 2])
    if not power.any():
        return float("nan")
    window = np.hanning(SAMPLE_RATE // 500 + 2)[1:-1]
    envelope = np.sqrt(np.maximum(0.0, np.convolve(power, window / window.sum())))
    width = SAMPLE_RATE // 100
    peak = np.sqrt(np.convolve(power, np.full(width, 1 / width)).max())
    return (_crossing(envelope, 0.9 * peak) - _crossing(envelope, 0.1 * peak)) / SAMPLE_RATE


def _crossing(envelope: Array, level: float) -> float:
    """The place, between frames, where an envelope first reaches a level."""
    first = int(np.argmax(envelope >= level))
    if first == 0:
        return 0.0
    below, above = envelope[first - 1 : first + 1]
    return first - 1 + float((level - below) / (above - below))


def floor_between(audio: Audio, references: Sequence[Audio], seconds: float, quiet: float = -50.0) -> float:
    """Level of what should be quiet, in decibels against the clip's loudest tenth of a second: the noise floor between events.

    Quiet places are those hundredths of a second within the asked length in which every reference is quiet, and the hundredths
    beside them; the floor is the median over them, so that one stroke out of place is no noise.

    Args:
        audio: The clip.
        references: Sounds for the same request, in time with the clip.
        seconds: The length that was asked for.
        quiet: Decibels below its own loudest tenth of a second at which a reference is quiet.
    """
    count = int(seconds * SAMPLE_RATE) // _QUIET_HOP
    silent = np.ones(count, bool)
    for reference in references:
        level = _levels(louder_channel(reference), _QUIET_HOP)
        loud = level[:count] > _loudest(reference) * 10 ** (quiet / 10)
        silent &= ~(loud | np.append(loud[1:], False) | np.append(False, loud[:-1]))
    if silent.sum() < 5:
        return float("nan")
    found = np.median(_levels(louder_channel(audio), _QUIET_HOP)[:count][silent])
    return float(10 * np.log10((found + 1e-20) / (_loudest(audio) + 1e-20)))


def _loudest(audio: Audio) -> float:
    """Mean power of the loudest tenth of a second."""
    return float(_levels(louder_channel(audio), SAMPLE_RATE // 10).max())
