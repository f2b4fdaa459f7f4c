"""Audio at the sample rates and bit rates that other interfaces name."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np

from sao_onnx.arrays import Array
from sao_onnx.clip import Clip
from sao_onnx.errors import RequestError

LARGEST_LEVEL = 0.9999
"""libsndfile refuses the last of its levels, 1."""


@dataclass(frozen=True)
class Encoding:
    """A way to encode audio.

    Attributes:
        codec: "mp3", "opus", "pcm", "wav", "ulaw" or "alaw"; pcm is 16 bits, little-endian, without a header.
        rate: In hertz.
        kilobits: A second, of mp3 and opus.
    """

    codec: str
    rate: int
    kilobits: int = 0

    @property
    def media_type(self) -> str:
        """What it is called in HTTP."""
        known = {"mp3": "audio/mpeg", "opus": "audio/ogg; codecs=opus", "wav": "audio/wav", "ulaw": "audio/basic"}
        return known.get(self.codec, f"audio/{self.codec}")

    @property
    def channels(self) -> int | None:
        """One where there is no header that could say how many there are; None for those of the clip."""
        return 1 if self.codec in ("pcm", "ulaw", "alaw") else None


def encode(clip: Clip, encoding: Encoding) -> bytes:
    """Encode a clip.

    Raises:
        RequestError: libsndfile cannot do it.
    """
    import soundfile

    samples = clip.samples.mean(axis=0, keepdims=True) if encoding.channels == 1 else clip.samples
    audio = np.clip(_resampled(samples, clip.sample_rate, encoding.rate), -1, 1)
    stream = io.BytesIO()
    try:
        with soundfile.SoundFile(stream, "w", encoding.rate, len(audio), **_arguments(encoding, len(audio))) as file:
            file.write(audio.T)
    except (soundfile.LibsndfileError, ValueError) as error:
        raise RequestError(f"{encoding.codec} at {encoding.rate} Hz cannot be written here") from error
    return stream.getvalue()


def _resampled(samples: Array, rate: int, wanted: int) -> Array:
    if rate == wanted:
        return samples
    import soxr

    found: Array = soxr.resample(samples.T, rate, wanted, quality="VHQ").T
    return found


def _arguments(encoding: Encoding, channels: int) -> dict[str, Any]:
    """How libsndfile is told of an encoding. It counts bit rates in levels: from the most, 0, to the least, 1."""
    match encoding.codec:
        case "mp3":
            # The rates of MPEG-1 and, below 32 kHz, of MPEG-2, layer III.
            least, most = (32, 320) if encoding.rate >= 32_000 else (8, 160)
            level = (most - encoding.kilobits) / (most - least)
            return _levelled("MPEG_LAYER_III", "MP3", level) | {"bitrate_mode": "CONSTANT"}
        case "opus":
            # 6 to 256 kbit/s for each channel.
            return _levelled("OPUS", "OGG", 1 - (encoding.kilobits / channels - 6) / 250)
        case "wav":
            return {"subtype": "PCM_16", "format": "WAV"}
        case "pcm":
            return {"subtype": "PCM_16", "format": "RAW", "endian": "LITTLE"}
    return {"subtype": encoding.codec.upper(), "format": "RAW"}


def _levelled(subtype: str, format: str, level: float) -> dict[str, Any]:
    return {"subtype": subtype, "format": format, "compression_level": min(max(level, 0.0), LARGEST_LEVEL)}
