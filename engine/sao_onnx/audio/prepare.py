"""Arithmetic on audio: float32 [channels, frames], full scale at 1."""

from __future__ import annotations

from typing import Any

import numpy as np

from sao_onnx.arrays import Array
from sao_onnx.errors import RequestError

# Below this peak (−120 dB of full scale) a clip is silence, and dividing by its peak would make noise of rounding errors.
SILENCE = 1e-6


def normalize(samples: Array) -> Array:
    """Scale to a peak of 1. Silence stays silence."""
    peak = float(np.abs(samples).max(initial=0.0))
    return samples / np.float32(peak) if peak > SILENCE else samples


def prepare(samples: np.ndarray[Any, Any], sample_rate: int, *, channels: int, target_rate: int) -> Array:
    """Audio of any rate and channel count as the model takes it.

    One channel is copied to both; of more than two, the first two are kept; for a mono model they are averaged
    (`set_audio_channels` of stable-audio-tools).

    Args:
        samples: [frames] or [channels, frames], any real dtype; integers are taken as they are.
        sample_rate: Of `samples`, in hertz.
        channels: Wanted channels, 1 or 2.
        target_rate: Wanted rate, in hertz.

    Returns:
        float32 [channels, frames at the wanted rate].

    Raises:
        RequestError: The audio is empty, not finite, of a wrong shape, or its rate is not positive.
    """
    audio = np.asarray(samples)
    if audio.ndim == 1:
        audio = audio[None]
    if audio.ndim != 2 or audio.dtype.kind not in "fiu":
        raise RequestError(f"audio has shape {audio.shape} and dtype {audio.dtype}, expected real numbers [channels, frames]")
    if audio.size == 0:
        raise RequestError("the audio is empty, expected at least one frame")
    if isinstance(sample_rate, bool) or not isinstance(sample_rate, (int, np.integer)) or sample_rate < 1:
        raise RequestError(f"the audio's sample rate is {sample_rate!r}, expected a positive whole number of hertz")
    audio = audio.astype(np.float32)
    if not np.isfinite(audio).all():
        raise RequestError("the audio holds NaN or infinite samples, expected finite ones")
    if channels == 1:
        audio = audio.mean(axis=0, keepdims=True)
    else:
        audio = np.repeat(audio, 2, axis=0) if len(audio) == 1 else audio[:2]
    if sample_rate != target_rate:
        import soxr

        audio = soxr.resample(audio.T, sample_rate, target_rate, quality="VHQ").T
    return np.ascontiguousarray(audio, dtype=np.float32)


def fit(samples: Array, frames: int) -> Array:
    """The first `frames` frames, zeros appended where there are fewer."""
    samples = samples[:, :frames]
    return np.pad(samples, ((0, 0), (0, frames - samples.shape[1])))
