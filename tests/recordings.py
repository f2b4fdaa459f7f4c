"""Recordings that tests start from."""

from __future__ import annotations

import numpy as np

RATE = 44100


def tones(seconds: float, rate: int = RATE) -> tuple[np.ndarray, int]:
    """Two steady tones, one on each channel, float32 [2, frames], with their rate."""
    times = np.arange(round(seconds * rate)) / rate
    return np.stack([np.sin(2 * np.pi * 220 * times), np.sin(2 * np.pi * 330 * times)]).astype(np.float32) * 0.3, rate
