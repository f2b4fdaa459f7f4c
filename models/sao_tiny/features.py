"""What the classifier sees of a clip. NumPy only."""

from __future__ import annotations

from typing import Any

import numpy as np

from models.sao_tiny.listen import louder_channel
from models.sao_tiny.requests import WINDOW
from models.sao_tiny.signals import SAMPLE_RATE

BANDS, HOP, SIZE = 48, 1024, 4096
RANGE = 45.0
"""Decibels below the peak that are seen. What makes a sound what it is lies there, and below it what a network leaves."""

FRAMES = WINDOW // HOP


def _bands() -> np.ndarray[Any, np.dtype[np.float64]]:
    """Triangles on the mel axis from 40 Hz up, each summing to 1: [bins, BANDS]."""
    mel = np.linspace(2595 * np.log10(1 + 40 / 700), 2595 * np.log10(1 + 20_000 / 700), BANDS + 2)
    edges = 700 * (10 ** (mel / 2595) - 1)
    bins = np.arange(SIZE // 2 + 1)[:, None] * SAMPLE_RATE / SIZE
    low, centre, high = edges[:-2], np.maximum(edges[1:-1], edges[:-2] + 11), np.maximum(edges[2:], edges[:-2] + 22)
    triangles = np.maximum(0, np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)))
    return np.asarray(triangles / (triangles.sum(axis=0) + 1e-9))


_MATRIX = _bands()


def features(audio: np.ndarray[Any, np.dtype[Any]]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Mel spectrogram of the louder channel, in decibels below its peak, -`RANGE` to 0 as 0 to 1: float32 [BANDS, FRAMES].

    Clips shorter than the window count as followed by silence.
    """
    signal = np.zeros(WINDOW + SIZE)
    heard = louder_channel(audio)[:WINDOW]
    signal[SIZE // 2 : SIZE // 2 + len(heard)] = heard
    windows = np.lib.stride_tricks.sliding_window_view(signal, SIZE)[::HOP][:FRAMES]
    power = np.square(np.abs(np.fft.rfft(windows * np.hanning(SIZE)))) @ _MATRIX
    decibels = 10 * np.log10(power / (power.max() + 1e-12) + 1e-12)
    return np.asarray(np.clip(1 + decibels / RANGE, 0, 1).T, np.float32)
