"""Integrated loudness of audio, after the recommendation ITU-R BS.1770-4."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sao_onnx.arrays import Array

ABSOLUTE_GATE = -70.0
"""LUFS. Blocks that are quieter do not count."""

RELATIVE_GATE = -10.0
"""LU. Blocks that are quieter than the mean of all others by more than this do not count."""


def loudness(samples: Array, sample_rate: int) -> float:
    """Measure integrated loudness.

    The mean power of blocks of 0.4 s that overlap by three quarters, gated twice. Audio that is shorter than a block counts as
    one block. The recommendation gives coefficients of its two filters for 48 kHz only. Here the filters are designed for any
    rate, from the corner frequencies, gains and quality factors behind those coefficients, and applied to the spectrum.

    Args:
        samples: float32 [channels, frames], where 1 is full scale.
        sample_rate: In hertz.

    Returns:
        Loudness in LUFS; minus infinity for silence.
    """
    if not samples.size:
        return -math.inf
    size = samples.shape[1] + sample_rate  # Room for the filters to ring.
    spectrum = np.fft.rfft(samples.astype(np.float64), size) * _k_weighting(size, sample_rate)
    power = np.square(np.fft.irfft(spectrum, size)[:, : samples.shape[1]]).sum(axis=0)
    block = min(round(0.4 * sample_rate), len(power))
    starts = np.arange(0, len(power) - block + 1, max(1, block // 4))
    total = np.concatenate([[0.0], np.cumsum(power)])
    blocks = (total[starts + block] - total[starts]) / block
    audible = blocks[_lufs(blocks) > ABSOLUTE_GATE]
    if not len(audible):
        return -math.inf
    gated = audible[_lufs(audible) > _lufs(audible.mean()) + RELATIVE_GATE]
    return float(_lufs(gated.mean()))


def _lufs(power: Any) -> Any:
    """Loudness of weighted mean power, summed over channels."""
    return -0.691 + 10 * np.log10(np.maximum(power, 1e-12))


def _k_weighting(size: int, sample_rate: int) -> np.ndarray[Any, np.dtype[np.complex128]]:
    """Frequency response of the two filters at the frequencies of `rfft`, complex128 [size // 2 + 1].

    A high shelf (1,682 Hz, 4 dB) and a high pass (38 Hz), both discretized with the bilinear transform.
    """
    z = np.exp(-2j * np.pi * np.arange(size // 2 + 1) / size)

    def response(corner: float, quality: float, b: tuple[float, float, float]) -> Any:
        k = math.tan(math.pi * corner / sample_rate)
        high, middle, low = b
        numerator = (low * k * k + middle * k / quality + high) + 2 * (low * k * k - high) * z
        numerator = numerator + (low * k * k - middle * k / quality + high) * z**2
        return numerator / ((k * k + k / quality + 1) + 2 * (k * k - 1) * z + (k * k - k / quality + 1) * z**2)

    gain = 10 ** (3.999843853973347 / 20)
    shelf = response(1681.974450955533, 0.7071752369554196, (gain, gain**0.4996667741545416, 1.0))
    # The recommendation's high pass has the numerator 1 - 2z + z², which is not normalized like its denominator.
    k = math.tan(math.pi * 38.13547087602444 / sample_rate)
    high_pass = response(38.13547087602444, 0.5003270373238773, (1.0, 0.0, 0.0)) * (k * k + k / 0.5003270373238773 + 1)
    return np.asarray(shelf * high_pass)
