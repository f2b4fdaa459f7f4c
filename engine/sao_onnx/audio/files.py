"""Audio files: reading, encoding, writing, and the text that is stored in them."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sao_onnx.arrays import Array
from sao_onnx.audio.formats import audio_format
from sao_onnx.audio.resample import resampled
from sao_onnx.errors import AudioFileError
from sao_onnx.writing import write_whole

VORBIS_CHANNELS = 255
VORBIS_RATE = 200_000
"""What Vorbis can hold, the rate in hertz. libsndfile does not check it and would end the process."""


def read_audio(path: str | Path) -> tuple[Array, int]:
    """Read an audio file in any format that libsndfile knows.

    Returns:
        Samples, float32 [channels, frames], where 1 is full scale; and the sample rate in hertz.

    Raises:
        AudioFileError: The file is missing, is no audio file, or is damaged.
    """
    import soundfile

    try:
        samples, sample_rate = soundfile.read(os.fspath(path), dtype="float32", always_2d=True)
    except (OSError, RuntimeError, TypeError, ValueError) as error:  # soundfile.LibsndfileError is a RuntimeError.
        raise AudioFileError(f"{path} cannot be read as audio: {error}") from error
    return np.ascontiguousarray(samples.T), int(sample_rate)


def encode_audio(
    samples: Array, sample_rate: int, suffix: str = ".wav", *, bits: int | None = None, tags: Mapping[str, str] | None = None
) -> bytes:
    """Encode audio as the bytes of a file.

    Samples beyond full scale are clipped, except in files of 32 bits, which hold floating point numbers. Audio of another
    sample rate is resampled to 48 kHz for Opus, which supports no 44.1 kHz.

    Args:
        samples: float32 [channels, frames], where 1 is full scale.
        sample_rate: In hertz.
        suffix: A key of `AUDIO_FORMATS`.
        bits: Bits in a sample: 16, 24 or, in .wav, 32; by default 16. Must be None for compressed formats.
        tags: Texts to store in the file, by libsndfile's name: "title", "comment", "software" and others. In MP3 files,
            characters outside ASCII become question marks.

    Returns:
        The whole content of the file.

    Raises:
        AudioFileError: The format is unknown, or does not support this number of bits, sample rate or number of channels.
    """
    import soundfile

    format, depth = audio_format(suffix, bits)
    refused = f"{len(samples)} channels at {sample_rate} Hz cannot be written as {suffix}"
    if len(samples) < 1 or sample_rate < 1:
        raise AudioFileError(f"{refused}: expected at least one channel and 1 Hz")
    if format.codecs[depth] == "VORBIS" and (len(samples) > VORBIS_CHANNELS or sample_rate > VORBIS_RATE):
        raise AudioFileError(f"{refused}: expected at most {VORBIS_CHANNELS} channels and {VORBIS_RATE} Hz")
    audio = samples if depth == 32 else np.clip(samples, -1, 1)
    rate = sample_rate
    if format.rate is not None and rate != format.rate:
        audio, rate = np.clip(resampled(audio, rate, format.rate), -1, 1), format.rate
    stream = io.BytesIO()
    try:
        with soundfile.SoundFile(stream, "w", rate, len(audio), format.codecs[depth], format=format.container) as file:
            for name, text in (tags or {}).items():
                setattr(file, name, text if format.unicode else text.encode("ascii", "replace").decode())
            file.write(audio.T)
    except soundfile.LibsndfileError as error:
        # Without the name of the stream, which says nothing to a person.
        raise AudioFileError(f"{refused}: {error.error_string}") from error
    except (OSError, RuntimeError, ValueError) as error:
        raise AudioFileError(f"{refused}: {error}") from error
    return stream.getvalue()


def write_audio(path: Path, data: bytes, *, overwrite: bool = False) -> None:
    """Write an encoded audio file whole or not at all; see `sao_onnx.writing`.

    Args:
        path: The file. Its folder must exist.
        data: What `encode_audio` returns.
        overwrite: Replace the file if it exists.

    Raises:
        OutputExistsError: The file exists and `overwrite` is false.
        AudioFileError: The file cannot be written.
    """
    write_whole(path, data, overwrite=overwrite, error=AudioFileError)


def read_tags(path: str | Path) -> dict[str, str]:
    """Read the texts that are stored in an audio file.

    Returns:
        Texts by libsndfile's name, such as "title" and "comment". Those that the file does not have are left out.

    Raises:
        AudioFileError: The file is missing, is no audio file, or is damaged.
    """
    import soundfile

    try:
        with soundfile.SoundFile(os.fspath(path)) as file:
            tags: dict[str, str] = file.copy_metadata()
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        raise AudioFileError(f"{path} cannot be read as audio: {error}") from error
    return tags
