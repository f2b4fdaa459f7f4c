"""Clips that repeat: how long they are, what the prompt says of it, and how the end joins the start. Pure NumPy."""

from __future__ import annotations

import re

import numpy as np

from sao_onnx.arrays import Array

OVERLAP = 0.05
"""Seconds behind the end that are cross-faded into the start."""


def loop_seconds(bpm: float, bars: int, beats: int) -> float:
    """Length of so many bars of so many beats, in seconds."""
    return bars * beats * 60 / bpm


def with_tempo(prompt: str, bpm: float | None) -> str:
    """The prompt, with the tempo, if there is one, where it names none."""
    if bpm is None or re.search(r"\d\s*bpm\b", prompt, re.IGNORECASE):
        return prompt
    return f"{prompt}, {bpm:g} BPM"


def joined(samples: Array, frames: int) -> Array:
    """The first `frames` frames, with the tail behind them faded into their start, so that the end leads into the start.

    When the loop is repeated, its last frame is followed by the frame that was generated behind it. Start and tail are the same
    music, so the weights of the cross-fade add up to 1, and not their squares.

    Args:
        samples: float32 [channels, at least `frames`].
        frames: Of the loop.
    """
    body, tail = samples[:, :frames].copy(), samples[:, frames : 2 * frames]
    overlap = tail.shape[1]
    rise = ((np.arange(overlap) + 0.5) / max(overlap, 1)).astype(np.float32)
    body[:, :overlap] = rise * body[:, :overlap] + (1 - rise) * tail
    return body
