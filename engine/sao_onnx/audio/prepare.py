"""Audio in the form that the model takes, and its peak. float32 [channels, frames], where 1 is full scale."""

from __future__ import annotations

from typing import Any

import numpy as np

from sao_onnx.arrays import Array
from sao_onnx.audio.resample import resampled
from sao_onnx.errors import RequestError

SILENCE = 1e-6
"""Peak (−120 dB of full scale) up to which audio is silence. Dividing by such a peak would only amplify rounding errors."""


def normalize(samples: Array) -> Array:
    """Scale audio to a peak of 1. Silence is not changed.

    Args:
        samples: float32 [channels, frames].

    Returns:
        float32 of the same shape.
    """
    peak = float(np.abs(samples).max(initial=0.0))
    return samples / np.float32(peak) if peak > SILENCE else samples


def prepare(samples: np.ndarray[Any, Any], sample_rate: int, *, channels: int, target_rate: int) -> Array:
    """Convert audio to the channels and the sample rate of a model.

    For a stereo model, one channel is copied to both, and of more than two channels the first two are kept. For a mono model
    all channels are averaged. `set_audio_channels` of stable-audio-tools does the same.

    Args:
        samples: [frames] or [channels, frames], of any real dtype. Integers are not scaled.
        sample_rate: Rate of `samples` in hertz.
        channels: Channels of the model, 1 or 2.
        target_rate: Rate of the model in hertz.

    Returns:
        float32 [channels, frames at the target rate].

    Raises:
        RequestError: The audio is empty, not finite or of a wrong shape, or `sample_rate` is not positive.
    """
    try:
        audio = np.asarray(samples)
    except (TypeError, ValueError) as error:
        raise RequestError(f"the audio is no array: {error}") from error
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
    return np.ascontiguousarray(resampled(audio, int(sample_rate), target_rate), dtype=np.float32)


def fit(samples: Array, frames: int) -> Array:
    """Cut audio to a length, or pad it with zeros at the end.

    Args:
        samples: float32 [channels, frames].
        frames: The wanted number of frames.

    Returns:
        float32 [channels, `frames`].
    """
    samples = samples[:, :frames]
    return np.pad(samples, ((0, 0), (0, frames - samples.shape[1])))
