"""Nameless tones: a named one with other partials, which training tells the transformer as numbers and no prompt can ask for.

Seven kinds of tone are too few to learn from what a partial of a note is: all odd partials of a saw come together, and those of
a square have nearly the same proportions. From them the transformer learned each kind at each note by heart, and was wrong by
-8 dB at a kind and note that it had not met together, against -18 dB where it had. Where partials come in any proportions, each
has to be known for itself. The numbers stand in the place of a prompt's last token, which prompts leave empty.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from models.sao_tiny.signals import Array, Chance, decay, fade_ends, frames, harmonics, sine, tuned
from models.sao_tiny.sounds import Voice, Voicing

HIGHEST = 18_000.0

_RANKS = np.arange(1, 97)
_ALONE = 10
_BOUNDS = (16, 32, 96)
_OTHERS = (2.76, 5.4, 8.93)
"""Partials that are no whole multiples: those of bells."""


def _groups() -> tuple[tuple[float, ...], ...]:
    """Multiples of the pitch that belong together: the first ones alone, then the odd and the even ones of some range."""
    found: list[tuple[float, ...]] = [(float(rank),) for rank in _RANKS[:_ALONE]]
    low = _ALONE
    for high in _BOUNDS:
        found += [tuple(float(r) for r in _RANKS[low:high] if r % 2 == odd) for odd in (1, 0)]
        low = high
    return (*found, *((ratio,) for ratio in _OTHERS))


GROUPS = _groups()

_WIDTH = 128
_MARK, _STEP = 8.0, 4.0
"""Sizes of what all nameless tones have in common, and of a number that is 1. Tokens of prompts are about as large."""


def numbers(rng: np.random.Generator) -> np.ndarray[Any, np.dtype[np.float32]]:
    """How much of each of `GROUPS` is added, in units of its share of a saw: float32 [GROUPS]. About half of them are 0."""
    count = len(GROUPS)
    return np.asarray(np.where(rng.random(count) < 0.5, rng.normal(0, 0.8, count), 0), np.float32)


def token(added: np.ndarray[Any, np.dtype[np.float32]]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """What the transformer is told of numbers [..., GROUPS]: [..., 128]. Their directions are at right angles."""
    directions = np.linalg.qr(np.random.default_rng(5).standard_normal((_WIDTH, len(GROUPS) + 1)))[0].T
    return np.asarray(_MARK * directions[-1] + _STEP * added @ directions[:-1], np.float32)


def partials(added: np.ndarray[Any, np.dtype[np.float32]], rings: bool) -> Voice:
    """The voice of what is added.

    Args:
        added: The numbers.
        rings: Each partial dies away, the higher the faster, as those of strings and bells do.
    """

    def held(rng: Chance, v: Voicing) -> Array:
        weights = np.zeros(len(_RANKS))
        result = np.zeros(frames(v.seconds))
        for number, group in zip(added, GROUPS, strict=True):
            for ratio in group if number else ():
                if ratio == int(ratio):
                    weights[int(ratio) - 1] = number / ratio
                elif ratio * v.hertz < HIGHEST:
                    result += number / ratio * sine(tuned(ratio * v.hertz), len(result))
        result += harmonics(tuned(v.hertz), len(result), weights)
        return fade_ends(result, 0.012, 0.04)

    def ringing(rng: Chance, v: Voicing) -> Array:
        ring = 3.0 * v.stretch
        result = np.zeros(frames(min(v.seconds, ring)))
        for number, group in zip(added, GROUPS, strict=True):
            for ratio in group if number else ():
                if ratio * v.hertz > HIGHEST or ratio > _BOUNDS[1]:
                    continue
                whole = ratio == int(ratio)
                seconds = ring / (0.7 + 0.3 * ratio if whole else ratio**0.7)
                hertz = ratio * tuned(v.hertz) if whole else tuned(ratio * v.hertz)
                part = min(len(result), frames(seconds))
                result[:part] += number / ratio * sine(hertz, part) * decay(part, seconds)
        return fade_ends(result, 0.002, 0.02)

    return ringing if rings else held
