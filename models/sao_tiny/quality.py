"""The quality of a clip beside the synthesizer's own sound: which measures apply to a request, and how good is good.

NumPy only. `timbre.py` measures; here is what is measured of which kind, and what counts as well done.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.sao_tiny import timbre
from models.sao_tiny.requests import WINDOW, Sound
from models.sao_tiny.signals import SAMPLE_RATE, tuned
from models.sao_tiny.sounds import hertz

Audio = np.ndarray[Any, np.dtype[np.float32]]
Array = np.ndarray[Any, np.dtype[np.float64]]

HARMONIC = ("sine", "triangle", "square", "saw", "organ", "plucked string")
NOISES = ("white noise", "pink noise", "brown noise")
DRUMS = ("kick", "snare", "clap", "closed hat", "open hat", "tom", "cymbal")

_BELL = (1.0, 2.0, 2.76, 5.4, 8.93)
"""Partials of the synthesizer's bell, as multiples of its pitch."""

_SILENT_NOISE, _WORST_SLOPE, _WORST_ATTACK = 0.0, 12.0, 500.0
"""What a clip gets that has nothing to be measured, where the synthesizer's sound has."""


@dataclass(frozen=True)
class Measure:
    """How a measure is read.

    Attributes:
        unit: Of its values.
        bound: A clip is well done if its value is no greater.
    """

    unit: str
    bound: float


MEASURES = {
    "noise between partials": Measure("dB", -40.0),
    "slope error": Measure("dB an octave", 1.0),
    "attack error": Measure("ms", 2.0),
    "noise floor": Measure("dB", -40.0),
}


def partials(sound: Sound) -> Array:
    """Where the partials of a tone are, in hertz, as high as they are compared."""
    pitch = hertz(sound.note)
    if sound.kind == "bell":
        return np.array([tuned(ratio * pitch) for ratio in _BELL])
    return timbre.harmonics_of(tuned(pitch), timbre.HIGHEST_PARTIAL)


def measure(sound: Sound, audio: Audio, references: Sequence[Audio]) -> dict[str, float]:
    """The quality of a clip, by the names of `MEASURES`; only what applies.

    Args:
        sound: What was asked for.
        audio: The clip, of the whole window.
        references: The synthesizer's sounds for the same request, at least one. They differ in what the request leaves open,
            and a clip's error is how far it is from the nearest of them.

    Returns:
        Noise between the partials of harmonic tones, in decibels against them; error of the spectral slope of noises, in
        decibels an octave; error of the attack time of drums, in milliseconds; level of the places that should be quiet within
        the asked length, in decibels against the loudest tenth of a second.
    """
    found = {}
    if sound.kind in HARMONIC:
        longest = max(references, key=lambda reference: timbre.held(reference).stop)
        if np.isfinite(timbre.noise_between(longest, tuned(hertz(sound.note)))):
            noise = timbre.noise_between(audio, tuned(hertz(sound.note)), longest)
            found["noise between partials"] = noise if np.isfinite(noise) else _SILENT_NOISE
    if sound.kind in NOISES:
        found["slope error"] = _error(timbre.slope(audio), [timbre.slope(x) for x in references], _WORST_SLOPE)
    if sound.kind in DRUMS:
        times = [1000 * timbre.attack_time(x) for x in references]
        found["attack error"] = _error(1000 * timbre.attack_time(audio), times, _WORST_ATTACK)
    found["noise floor"] = timbre.floor_between(audio, references, min(sound.seconds, WINDOW / SAMPLE_RATE))
    return {name: value for name, value in found.items() if np.isfinite(value)}


def _error(value: float, references: Sequence[float], worst: float) -> float:
    """Distance from the nearest reference that can be measured; NaN if none can."""
    measured = [reference for reference in references if np.isfinite(reference)]
    if not measured:
        return float("nan")
    return min(worst, *(abs(value - reference) for reference in measured)) if np.isfinite(value) else worst


def summary(found: Iterable[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Of many clips: the median of each measure, the share of clips within its bound, and of how many."""
    values: dict[str, list[float]] = {}
    for clip in found:
        for name, value in clip.items():
            values.setdefault(name, []).append(value)
    return {
        name: {
            "median": round(float(np.median(values[name])), 2),
            "share": round(float(np.mean(np.array(values[name]) <= measure.bound)), 4),
            "of": len(values[name]),
        }
        for name, measure in MEASURES.items()
        if name in values
    }
