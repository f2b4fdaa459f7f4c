"""Noise levels: where sampling starts, the steps on the way to zero, and what they are called in words."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sao_onnx.errors import RequestError

LOGSNR_START = -6.0
LOGSNR_END = 2.0

MIN_NOISE_LEVEL = 0.12
"""The least level to start from. Steps are laid out up to a log-SNR of 2, a level of sigmoid(−2) ≈ 0.1192; from below that
the schedule would rise."""


def schedule(steps: int, noise_level: float = 1.0) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Noise levels from `noise_level` down to 0, evenly spaced in log-SNR.

    The schedule of the objective `rf_denoiser` (`sample_rf` of stable-audio-tools): `t = sigmoid(−logsnr)`, both ends then set
    exactly.

    Args:
        steps: Sampling steps, at least 1.
        noise_level: 1 for text-to-audio; for audio-to-audio the share of noise in the start, `MIN_NOISE_LEVEL` to 1.

    Returns:
        float32 [steps + 1], strictly falling.

    Raises:
        RequestError: A value outside its range.
    """
    if steps < 1:
        raise RequestError(f"steps is {steps}, expected at least 1")
    if not MIN_NOISE_LEVEL <= noise_level <= 1:
        raise RequestError(
            f"the noise level is {noise_level}, expected {MIN_NOISE_LEVEL} to 1; below that the model's schedule would "
            "add noise instead of removing it"
        )
    start = LOGSNR_START if noise_level == 1 else math.log((1 - noise_level) / noise_level + 1e-6)
    levels = 1 / (1 + np.exp(np.linspace(start, LOGSNR_END, steps + 1)))
    levels[0], levels[-1] = noise_level, 0.0
    return levels.astype(np.float32)


def noise_level(strength: float) -> float:
    """The noise level for a strength of audio-to-audio.

    Args:
        strength: 0 keeps as much of the input as the model can, 1 ignores it.

    Returns:
        A level in the usable range.

    Raises:
        RequestError: The strength is not in 0 to 1.
    """
    if not 0 <= strength <= 1:
        raise RequestError(f"strength is {strength}, expected 0 (close to the input) to 1 (ignores it)")
    return MIN_NOISE_LEVEL + (1 - MIN_NOISE_LEVEL) * strength
