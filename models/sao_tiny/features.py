"""What the classifier sees of a clip. NumPy only."""

from __future__ import annotations

from typing import Any

import numpy as np

from models.sao_tiny.listen import louder_channel
from models.sao_tiny.requests import WINDOW
from models.sao_tiny.signals import SAMPLE_RATE

BANDS, HOP, SIZE = 106, 1024, 4096
RANGE = 45.0
"""Decibels below the peak that are seen. What makes a sound what it is lies there, and below it what a network leaves."""

FRAMES = WINDOW // HOP


def _bands() -> np.ndarray[Any, np.dtype[np.float64]]:
    """Triangles from 40 Hz up, a semitone apart, each summing to 1: [bins, BANDS].

    On this axis the same timbre at another pitch is the same picture in another place.
    """
    edges = 40 * 2 ** (np.arange(-1, BANDS + 1) / 12)
    bins = np.arange(SIZE // 2 + 1)[:, None] * SAMPLE_RATE / SIZE
    # At least a bin wide on both sides.
    centre, width = edges[1:-1], SAMPLE_RATE / SIZE
    low, high = np.minimum(edges[:-2], centre - width), np.maximum(edges[2:], centre + width)
    triangles = np.maximum(0, np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)))
    return np.asarray(triangles / (triangles.sum(axis=0) + 1e-9))


_MATRIX = _bands()


def features(audio: np.ndarray[Any, np.dtype[Any]]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Spectrogram of the louder channel, in decibels below its peak, -`RANGE` to 0 as 0 to 1: float32 [BANDS, FRAMES].

    Clips shorter than the window count as followed by silence.
    """
    signal = np.zeros(WINDOW + SIZE)
    heard = louder_channel(audio)[:WINDOW]
    signal[SIZE // 2 : SIZE // 2 + len(heard)] = heard
    windows = np.lib.stride_tricks.sliding_window_view(signal, SIZE)[::HOP][:FRAMES]
    power = np.square(np.abs(np.fft.rfft(windows * np.hanning(SIZE)))) @ _MATRIX
    decibels = 10 * np.log10(power / (power.max() + 1e-12) + 1e-12)
    return np.asarray(np.clip(1 + decibels / RANGE, 0, 1).T, np.float32)
