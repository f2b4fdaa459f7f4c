"""The last steps after decoding: channels, ends and level. Audio is float32 [channels, frames], where 1 is full scale."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sao_onnx.arrays import Array
from sao_onnx.audio.limits import LOUDNESS, Normalization
from sao_onnx.audio.loudness import loudness
from sao_onnx.audio.prepare import normalize

SILENCE_DECIBELS = -60.0
"""Level relative to the peak below which audio counts as silence."""


@dataclass(frozen=True)
class Finish:
    """Settings of the last steps. An instance is a function that carries them out.

    Attributes:
        normalize: How the level is chosen.
        loudness: Loudness for "lufs", in LUFS, -70 to 0.
        fade_in: Length of the fade at the start, in seconds, 0 to 60.
        fade_out: Length of the fade at the end, in seconds, 0 to 60.
        trim_silence: Cut off both ends where they are more than 60 dB below the peak.
        mono: Mix all channels to one: their mean.
    """

    normalize: Normalization = "peak"
    loudness: float = LOUDNESS
    fade_in: float = 0.0
    fade_out: float = 0.0
    trim_silence: bool = False
    mono: bool = False

    def __call__(self, samples: Array, sample_rate: int) -> Array:
        """Carry out the settings. Silence stays silence. Only with "none" can the result exceed full scale.

        Args:
            samples: float32 [channels, frames].
            sample_rate: In hertz.

        Returns:
            float32 [channels, frames], with one channel for `mono`, and fewer frames where silence was cut off.
        """
        if self.mono:
            samples = samples.mean(axis=0, keepdims=True)
        if self.trim_silence:
            samples = without_silence(samples)
        samples = faded(samples, round(self.fade_in * sample_rate), round(self.fade_out * sample_rate))
        if self.normalize == "peak":
            return normalize(samples)
        if self.normalize == "lufs":
            found = loudness(samples, sample_rate)
            if math.isfinite(found):
                gain = np.float32(10 ** ((self.loudness - found) / 20))
                samples = limited(samples * gain, sample_rate)
        return samples


def without_silence(samples: Array) -> Array:
    """Cut off both ends where they are more than 60 dB below the peak. Audio that is all silence is not changed.

    Args:
        samples: float32 [channels, frames].

    Returns:
        float32 [channels, at most as many frames].
    """
    level = np.abs(samples).max(axis=0, initial=0.0)
    loud = np.flatnonzero(level > level.max(initial=0.0) * 10 ** (SILENCE_DECIBELS / 20))
    return samples[:, loud[0] : loud[-1] + 1] if len(loud) else samples


def faded(samples: Array, fade_in: int, fade_out: int) -> Array:
    """Fade both ends along a quarter of a sine.

    Args:
        samples: float32 [channels, frames].
        fade_in: Length of the fade at the start, in frames. It is cut to the whole length.
        fade_out: Length of the fade at the end, likewise.

    Returns:
        A new array of the same shape.
    """
    count = samples.shape[1]
    result = samples.copy()
    for frames, ends in ((fade_in, result), (fade_out, result[:, ::-1])):
        rise = np.sin(np.pi / 2 * (np.arange(min(frames, count)) + 0.5) / max(frames, 1)).astype(np.float32)
        ends[:, : len(rise)] *= rise
    return result


def limited(samples: Array, sample_rate: int) -> Array:
    """Lower the level around peaks so that nothing exceeds full scale.

    The gain that each frame needs is held for 5 ms on both sides, and then averaged over the same span. So the gain is never
    higher than a frame needs, and it has no steps. All channels have the same gain.

    Args:
        samples: float32 [channels, frames].
        sample_rate: In hertz.

    Returns:
        float32 of the same shape; `samples` itself where nothing exceeds full scale.
    """
    level = np.abs(samples).max(axis=0, initial=0.0)
    if level.max(initial=0.0) <= 1:
        return samples
    reach = max(1, round(0.005 * sample_rate))
    needed = (1 / np.maximum(level, 1)).astype(np.float64)
    held = np.lib.stride_tricks.sliding_window_view(np.pad(needed, 2 * reach, mode="edge"), 2 * reach + 1).min(axis=1)
    total = np.concatenate([[0.0], np.cumsum(held)])
    gain = (total[2 * reach + 1 :] - total[: -2 * reach - 1]) / (2 * reach + 1)
    held_back: Array = np.clip(samples * gain.astype(np.float32), -1, 1)
    return held_back
