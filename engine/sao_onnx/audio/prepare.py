"""Audio in the form that the model takes, and its peak. float32 [channels, frames], where 1 is full scale."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from sao_onnx.arrays import Array
from sao_onnx.audio.limits import HIGHEST_RATE, LOWEST_RATE, MAX_CHANNELS
from sao_onnx.audio.resample import resampler
from sao_onnx.errors import RequestError, SaoOnnxError, SaoOnnxWarning
from sao_onnx.warn import warn

SILENCE = 1e-6
"""Peak (−120 dB of full scale) up to which audio is silence. Dividing by such a peak would only amplify rounding errors."""

BLOCK = 2**18
"""Samples of all channels together that are read and converted at a time."""

MARGIN = 1.0
"""Seconds before a part that the resampler is given, so that it does not hear the part begin. Its filter is far shorter."""

LONGEST = 1e9
"""Seconds that no recording has."""

Refusal = Callable[[str], SaoOnnxError]
"""The error that says what is wrong with a recording: "is empty" becomes "rec.wav is empty"."""


@dataclass(frozen=True)
class Part:
    """A part of a recording, in the form that a model takes.

    Attributes:
        start: Seconds of the recording before it.
        frames: Its length at `rate`; it has less where the recording ends before.
        channels: Of the model, 1 or 2.
        rate: Of the model, in hertz.
    """

    start: float
    frames: int
    channels: int
    rate: int

    def place(self, rate: int) -> tuple[int, int]:
        """Where to begin in a recording of a rate, and how many frames at `self.rate` to leave out then.

        Frames of both rates coincide there, so the resampler computes what it would have computed from the beginning.
        """
        first = round(min(self.start, LONGEST) * self.rate)
        if rate == self.rate:
            return first, 0
        common = math.gcd(rate, self.rate)
        step, made = rate // common, self.rate // common
        periods = max(0, first // made - math.ceil(MARGIN * rate / step))
        return periods * step, first - periods * made

    def beyond(self, seconds: float) -> RequestError:
        """The error for a part that begins where the recording, of so many seconds, is over."""
        last = rounded_down(max(0.0, seconds - 1 / self.rate))
        return RequestError(f"init_start is {self.start:.15g}, expected 0 to {last}; the audio is {seconds:.3f} s long")


def rounded_down(seconds: float) -> str:
    """A length as text, in milliseconds or, where it is short, in microseconds; never more than the length."""
    digits = 3 if seconds >= 0.01 else 6
    return f"{math.floor(seconds * 10**digits) / 10**digits:.{digits}f}"


def normalize(samples: Array) -> Array:
    """Scale audio to a peak of 1. Silence is not changed.

    Args:
        samples: float32 [channels, frames].

    Returns:
        float32 of the same shape.
    """
    peak = float(np.abs(samples).max(initial=0.0))
    return samples / np.float32(peak) if peak > SILENCE else samples


def prepare(samples: Any, sample_rate: Any, part: Part) -> Array:
    """Take a part of audio in memory and convert it to the channels and the sample rate of a model.

    Args:
        samples: [frames] or [channels, frames]. Floating point numbers have full scale at 1. Integers are divided by the
            full scale of their type: 32,768 for int16, 2,147,483,648 for int32, 128 for int8; uint8 has its zero at 128.
        sample_rate: Rate of `samples` in hertz.
        part: What is taken.

    Returns:
        float32 [channels, frames], a copy.

    Raises:
        RequestError: The audio is empty, not finite, of a wrong shape, type or sample rate, or ends before the part.
    """
    audio = _two_dimensional(samples)
    if isinstance(sample_rate, bool) or not isinstance(sample_rate, (int, np.integer)):
        raise RequestError(f"the audio's sample rate is {sample_rate!r}, expected a whole number of hertz")
    rate = int(sample_rate)
    require_sound(rate, len(audio), part, _refusal)
    first, left_out = part.place(rate)
    size = BLOCK // len(audio)
    blocks = (_scaled(audio[:, start : start + size].T) for start in range(first, audio.shape[1], size))
    found = converted(blocks, rate, part, left_out, _refusal)
    if not found.size:
        raise part.beyond(audio.shape[1] / rate)
    return found


def _refusal(problem: str) -> SaoOnnxError:
    return RequestError(f"the audio {problem}")


def _two_dimensional(samples: Any) -> np.ndarray[Any, Any]:
    """Audio as an array [channels, frames] of a type that has a full scale; not copied."""
    try:
        audio = np.asarray(samples)
    except (RuntimeError, TypeError, ValueError) as error:  # Lists of different lengths; tensors that NumPy cannot see.
        raise RequestError(f"the audio is no array: {error}") from error
    if audio.ndim not in (1, 2):
        remedy = "; init_audio is (samples, sample_rate), in this order" if audio.ndim == 0 else ""
        raise RequestError(f"the audio has shape {audio.shape}, expected [channels, frames] or [frames]{remedy}")
    if audio.dtype.kind != "f" and audio.dtype.name not in ("int8", "int16", "int32", "uint8"):
        raise RequestError(
            f"the audio has dtype {audio.dtype}, expected floating point numbers with full scale at 1, or int16, int32 or uint8"
        )
    audio = np.atleast_2d(audio)
    if not audio.size:
        raise _refusal("is empty, expected at least one frame")
    if len(audio) > audio.shape[1]:
        raise RequestError(
            f"the audio has shape {audio.shape}, expected [channels, frames], and never more channels than frames; "
            "for [frames, channels], as soundfile and scipy read it, give samples.T"
        )
    return audio


def _scaled(block: np.ndarray[Any, Any]) -> Array:
    """Samples of any accepted type as float32 with full scale at 1."""
    if block.dtype.kind == "f":
        with np.errstate(over="ignore"):  # What is too large becomes infinite, which is refused.
            return block.astype(np.float32)
    half = 2.0 ** (8 * block.dtype.itemsize - 1)
    scaled: Array = ((block - (half if block.dtype.kind == "u" else 0.0)) / half).astype(np.float32)
    return scaled


def require_sound(rate: int, channels: int, part: Part, refusal: Refusal) -> None:
    """Refuse a recording whose sample rate or number of channels no sound has, with an error of `refusal`.

    Warns of channels that will not be heard.
    """
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise refusal(f"has a sample rate of {rate} Hz, expected {LOWEST_RATE} to {HIGHEST_RATE}")
    if channels > MAX_CHANNELS:
        raise refusal(f"has {channels} channels, expected at most {MAX_CHANNELS}")
    if channels > part.channels > 1:
        warn(f"the initial audio has {channels} channels, of which the first {part.channels} are used", SaoOnnxWarning)


def converted(blocks: Iterable[Array], rate: int, part: Part, left_out: int, refusal: Refusal) -> Array:
    """Convert a recording block by block to the form of a model, until there is as much as is wanted.

    For a stereo model, one channel is copied to both, and of more than two channels the first two are kept. For a mono model
    all channels are averaged. `set_audio_channels` of stable-audio-tools does the same.

    Args:
        blocks: float32 [frames, channels] each. No more of them are taken than are needed.
        rate: Of the blocks, in hertz.
        part: What is wanted; its start does not count.
        left_out: Frames at the rate of the model that are left out before it.
        refusal: Makes the error for samples that are not finite.

    Returns:
        float32 [channels, at most `part.frames`].
    """
    kept: deque[Array] = deque()
    count = 0
    for block in _resampled(_mixed(blocks, part.channels, refusal), rate, part):
        wanted = block[left_out : left_out + part.frames - count]
        left_out = max(0, left_out - len(block))
        kept.append(wanted)
        count += len(wanted)
        if count == part.frames:
            break
    # Block by block, so that a long recording is not in memory twice.
    found = np.empty((part.channels, count), np.float32)
    start = 0
    while kept:
        block = kept.popleft()
        found[:, start : start + len(block)] = block.T
        start += len(block)
    return found


def _mixed(blocks: Iterable[Array], channels: int, refusal: Refusal) -> Iterator[Array]:
    """Blocks with the channels of the model."""
    for block in blocks:
        audio = np.ascontiguousarray(block.T)
        if channels == 1:
            audio = audio.mean(axis=0, keepdims=True)
        else:
            audio = np.repeat(audio, 2, axis=0) if len(audio) == 1 else audio[:2]
        if not np.isfinite(audio).all():
            raise refusal("holds NaN or infinite samples, expected finite ones")
        yield np.ascontiguousarray(audio.T)


def _resampled(blocks: Iterable[Array], rate: int, part: Part) -> Iterator[Array]:
    """Blocks at the rate of the model."""
    if rate == part.rate:
        yield from blocks
        return
    stream = resampler(rate, part.rate, part.channels)
    for block in blocks:
        yield stream.resample_chunk(block)
    yield stream.resample_chunk(np.empty((0, part.channels), np.float32), last=True)


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
