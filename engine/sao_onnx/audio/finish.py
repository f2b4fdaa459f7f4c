"""What is done to decoded audio before it is handed out: level, ends, channels. float32 [channels, frames], full scale at 1."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from sao_onnx.arrays import Array
from sao_onnx.audio.prepare import normalize
from sao_onnx.errors import RequestError

Normalization = Literal["peak", "lufs", "none"]
"""Scale to a peak of 1; to a loudness, with a limiter; not at all."""

LOUDNESS = -14.0
"""LUFS that streaming services play music at."""

QUIETEST, LOUDEST = -70.0, 0.0
SILENCE_DECIBELS = -60.0
MAX_FADE = 60.0


@dataclass(frozen=True)
class Finish:
    """What to do.

    Attributes:
        normalize: How the level is chosen.
        loudness: In LUFS, for "lufs".
        fade_in: Seconds.
        fade_out: Seconds.
        trim_silence: Cut off what is quieter than -60 dB of the peak at both ends.
        mono: One channel, the mean of all.

    Raises:
        RequestError: A value outside its range.
    """

    normalize: Normalization = "peak"
    loudness: float = LOUDNESS
    fade_in: float = 0.0
    fade_out: float = 0.0
    trim_silence: bool = False
    mono: bool = False

    def __post_init__(self) -> None:
        if self.normalize not in get_args(Normalization):
            raise RequestError(f"normalize is {self.normalize!r}, known: {', '.join(get_args(Normalization))}")
        if not QUIETEST <= self.loudness <= LOUDEST:
            raise RequestError(f"loudness is {self.loudness}, expected {QUIETEST:g} to {LOUDEST:g} LUFS")
        for name, value in (("fade_in", self.fade_in), ("fade_out", self.fade_out)):
            if not 0 <= value <= MAX_FADE:
                raise RequestError(f"{name} is {value}, expected 0 to {MAX_FADE:g} seconds")

    def __call__(self, samples: Array, sample_rate: int) -> Array:
        """Finished audio; silence stays silence, and nothing exceeds full scale unless `normalize` is "none".

        Args:
            samples: float32 [channels, frames].
            sample_rate: In hertz.
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
    """What lies between the first and the last frame within 60 dB of the peak. Silence is left as it is."""
    level = np.abs(samples).max(axis=0, initial=0.0)
    heard = np.flatnonzero(level > level.max(initial=0.0) * 10 ** (SILENCE_DECIBELS / 20))
    return samples[:, heard[0] : heard[-1] + 1] if len(heard) else samples


def faded(samples: Array, fade_in: int, fade_out: int) -> Array:
    """Both ends faded along a quarter of a sine, over so many frames, at most all of them."""
    count = samples.shape[1]
    result = samples.copy()
    for frames, ends in ((fade_in, result), (fade_out, result[:, ::-1])):
        rise = np.sin(np.pi / 2 * (np.arange(min(frames, count)) + 0.5) / max(frames, 1)).astype(np.float32)
        ends[:, : len(rise)] *= rise
    return result


def loudness(samples: Array, sample_rate: int) -> float:
    """Integrated loudness in LUFS after ITU-R BS.1770-4; minus infinity for silence.

    Blocks of 0.4 s, three quarters overlapping, gated at -70 LUFS and at 10 LU below their mean. Audio shorter than a block is
    taken as one. The recommendation gives its two filters for 48 kHz; here they are designed for the rate, from the corner
    frequencies, gains and qualities that those stand for, and applied over the spectrum.
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
    audible = blocks[_lufs(blocks) > -70]
    if not len(audible):
        return -math.inf
    gated = audible[_lufs(audible) > _lufs(audible.mean()) - 10]
    return float(_lufs(gated.mean()))


def _lufs(power: Any) -> Any:
    return -0.691 + 10 * np.log10(np.maximum(power, 1e-12))


def _k_weighting(size: int, sample_rate: int) -> np.ndarray[Any, np.dtype[np.complex128]]:
    """Response of the high shelf (1,682 Hz, 4 dB) and the high pass (38 Hz), bilinear transforms, at the bins of `rfft`."""
    z = np.exp(-2j * np.pi * np.arange(size // 2 + 1) / size)

    def response(corner: float, quality: float, b: tuple[float, float, float]) -> Any:
        k = math.tan(math.pi * corner / sample_rate)
        high, middle, low = b
        numerator = (low * k * k + middle * k / quality + high) + 2 * (low * k * k - high) * z
        numerator = numerator + (low * k * k - middle * k / quality + high) * z**2
        return numerator / ((k * k + k / quality + 1) + 2 * (k * k - 1) * z + (k * k - k / quality + 1) * z**2)

    gain = 10 ** (3.999843853973347 / 20)
    shelf = response(1681.974450955533, 0.7071752369554196, (gain, gain**0.4996667741545416, 1.0))
    # The recommendation's high pass has the numerator 1 - 2z + z², not divided by what its denominator is divided by.
    k = math.tan(math.pi * 38.13547087602444 / sample_rate)
    high_pass = response(38.13547087602444, 0.5003270373238773, (1.0, 0.0, 0.0)) * (k * k + k / 0.5003270373238773 + 1)
    return np.asarray(shelf * high_pass)


def limited(samples: Array, sample_rate: int) -> Array:
    """Nothing above full scale: where a peak would be, the level sinks before it and rises after it, in 5 ms.

    The gain that each frame needs is held over 5 ms on both sides and then averaged over as much, so that it is never above
    what the frame needs and has no steps. All channels share it.
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
