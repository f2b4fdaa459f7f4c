"""Audio at another sample rate. Only here is soxr imported, which is not there on every machine."""

from __future__ import annotations

import numpy as np

from sao_onnx.arrays import Array
from sao_onnx.errors import MissingResamplerError, RequestError

MAX_RATE = 10_000_000
"""Hertz. Far more than any recording has; soxr would work on an absurd rate for ever."""


def resampled(samples: Array, rate: int, target_rate: int) -> Array:
    """Audio at another rate; the same audio where it has that rate already.

    Args:
        samples: float32 [channels, frames].
        rate: Of them, in hertz.
        target_rate: The wanted one.

    Returns:
        float32 [channels, frames at the wanted rate].

    Raises:
        RequestError: `rate` is less than 1 or more than `MAX_RATE`.
        MissingResamplerError: The rates differ, and soxr is not installed.
    """
    if rate == target_rate:
        return samples
    if not 1 <= rate <= MAX_RATE:
        raise RequestError(f"the audio's sample rate is {min(rate, 10**12)} or more, expected 1 to {MAX_RATE} hertz")
    try:
        import soxr
    except ImportError as error:
        raise MissingResamplerError(
            f"audio at {rate} Hz has to be resampled to {target_rate} Hz, which needs soxr, and it cannot be loaded ({error}); "
            f"bring the audio to {target_rate} Hz with another program, or, where pip can build or find it, pip install soxr"
        ) from error
    return np.ascontiguousarray(soxr.resample(samples.T, rate, target_rate, quality="VHQ").T, np.float32)
