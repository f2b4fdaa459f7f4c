"""Audio at another sample rate. Only here is soxr imported, which is not there on every machine."""

from __future__ import annotations

from typing import Any

import numpy as np

from sao_onnx.arrays import Array
from sao_onnx.audio.limits import HIGHEST_RATE
from sao_onnx.errors import MissingResamplerError, RequestError

QUALITY = "VHQ"


def resampled(samples: Array, rate: int, target_rate: int) -> Array:
    """Audio at another rate; the same audio where it has that rate already.

    Args:
        samples: float32 [channels, frames].
        rate: Of them, in hertz.
        target_rate: The wanted one.

    Returns:
        float32 [channels, frames at the wanted rate].

    Raises:
        RequestError: `rate` is less than 1 or more than `HIGHEST_RATE`.
        MissingResamplerError: The rates differ, and soxr is not installed.
    """
    if rate == target_rate:
        return samples
    if not 1 <= rate <= HIGHEST_RATE:
        # soxr would work on an absurd rate for ever.
        raise RequestError(f"the audio's sample rate is {min(rate, 10**12)} or more, expected 1 to {HIGHEST_RATE} hertz")
    soxr = _soxr(rate, target_rate)
    return np.ascontiguousarray(soxr.resample(samples.T, rate, target_rate, quality=QUALITY).T, np.float32)


def resampler(rate: int, target_rate: int, channels: int) -> Any:
    """A `soxr.ResampleStream`, which resamples audio block by block, float32 [frames, channels].

    Raises:
        MissingResamplerError: soxr is not installed.
    """
    return _soxr(rate, target_rate).ResampleStream(rate, target_rate, channels, quality=QUALITY)


def _soxr(rate: int, target_rate: int) -> Any:
    try:
        import soxr
    except ImportError as error:
        raise MissingResamplerError(
            f"audio at {rate} Hz has to be resampled to {target_rate} Hz, which needs soxr, and it cannot be loaded ({error}); "
            f"bring the audio to {target_rate} Hz with another program, or, where pip can build or find it, pip install soxr"
        ) from error
    return soxr
