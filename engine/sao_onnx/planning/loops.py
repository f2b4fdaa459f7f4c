"""Clips that repeat: how long they are, what the prompt says of it, and how the end joins the start. Pure NumPy."""

from __future__ import annotations

import re

import numpy as np

from sao_onnx.arrays import Array
from sao_onnx.errors import RequestError

SLOWEST, FASTEST = 20.0, 400.0
MOST_BARS, MOST_BEATS = 64, 16

OVERLAP = 0.05
"""Seconds behind the end that are cross-faded into the start."""


def loop_seconds(bpm: float, bars: int, beats: int) -> float:
    """Length of so many bars of so many beats.

    Raises:
        RequestError: A value outside its range.
    """
    if not SLOWEST <= bpm <= FASTEST:
        raise RequestError(f"bpm is {bpm:g}, expected {SLOWEST:g} to {FASTEST:g} beats a minute")
    for name, value, most in (("bars", bars, MOST_BARS), ("beats", beats, MOST_BEATS)):
        if not 1 <= value <= most:
            raise RequestError(f"{name} is {value}, expected 1 to {most}")
    return bars * beats * 60 / bpm


def with_tempo(prompt: str, bpm: float) -> str:
    """The prompt, with the tempo where it names none."""
    return prompt if re.search(r"\d\s*bpm\b", prompt, re.IGNORECASE) else f"{prompt}, {bpm:g} BPM"


def joined(samples: Array, frames: int) -> Array:
    """The first `frames` frames, what follows them faded into their start, so that the end leads on into it.

    The last frame is followed, in the loop, by what followed it when it was made. Both are the same music, so that their
    weights add up to 1.

    Args:
        samples: float32 [channels, at least `frames`].
        frames: Of the loop.
    """
    body, tail = samples[:, :frames].copy(), samples[:, frames : 2 * frames]
    overlap = tail.shape[1]
    rise = ((np.arange(overlap) + 0.5) / max(overlap, 1)).astype(np.float32)
    body[:, :overlap] = rise * body[:, :overlap] + (1 - rise) * tail
    return body
