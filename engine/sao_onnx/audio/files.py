"""Audio files: reading, encoding, writing, and the text that is stored in them."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sao_onnx.arrays import Array
from sao_onnx.audio.foreign import foreign_file
from sao_onnx.audio.formats import AUDIO_FORMATS, Format, audio_format
from sao_onnx.audio.resample import resampled
from sao_onnx.audio.tags import kinds
from sao_onnx.errors import AudioFileError, NotEnoughMemoryError
from sao_onnx.reading import open_ordinary
from sao_onnx.writing import write_whole

if TYPE_CHECKING:
    from soundfile import SoundFile

VORBIS_CHANNELS = 255
VORBIS_RATE = 200_000
"""What Vorbis can hold, the rate in hertz. libsndfile does not check it and would end the process."""

WAV_BYTES = 2**32 - 2**23
"""Bytes of samples that a WAV file can hold, beside its texts. libsndfile does not check it and would write a wrong size."""

LARGEST_DIGESTED = 250_000_000
"""Bytes of a file whose digest is computed: twenty minutes of a recording."""

BLOCK = 4096
"""Frames that are encoded at once. libvorbis puts them on the stack, and a whole clip would end a process with a small one."""


def read_audio(path: str | Path) -> tuple[Array, int]:
    """Read an audio file in any format that libsndfile knows.

    Returns:
        Samples, float32 [channels, frames], where 1 is full scale; and the sample rate in hertz.

    Raises:
        AudioFileError: The file is missing, is no ordinary file, is no audio file, or is damaged.
        NotEnoughMemoryError: There is less memory than the frames need that the file says to have.
    """
    import soundfile

    with _audio_errors(path):
        # Only ordinary files: a FIFO could wait for ever.
        open_ordinary(Path(path), error=AudioFileError).close()
        samples, sample_rate = soundfile.read(sound_path(path), dtype="float32", always_2d=True)
    return np.ascontiguousarray(samples.T), int(sample_rate)


def audio_seconds(path: str | Path) -> float:
    """The length of an audio file as its header tells it, in seconds.

    Raises:
        AudioFileError: The file is missing, is no ordinary file, or is no audio file.
    """
    import soundfile

    with _audio_errors(path):
        open_ordinary(Path(path), error=AudioFileError).close()
        found = soundfile.info(sound_path(path))
    return float(found.frames / found.samplerate)


def sound_path(path: str | Path) -> str | bytes:
    """A path for soundfile: a whole one, because "-" would be stdin; in bytes, because it refuses text that is no UTF-8."""
    whole = os.path.abspath(path)  # noqa: PTH100  Not `Path.resolve`, which follows links.
    return whole if sys.platform == "win32" else os.fsencode(whole)


def encode_audio(
    samples: Array, sample_rate: int, suffix: str = ".wav", *, bits: int | None = None, tags: Mapping[str, str] | None = None
) -> bytes:
    """Encode audio as the bytes of a file. The same audio, format and tags give the same bytes.

    Samples beyond full scale are clipped, except in files of 32 bits, which hold floating point numbers. Audio of another
    sample rate is resampled to 48 kHz for Opus, which supports no 44.1 kHz.

    Args:
        samples: float32 [channels, frames], where 1 is full scale.
        sample_rate: In hertz.
        suffix: A key of `AUDIO_FORMATS`.
        bits: Bits in a sample: 16, 24 or, in .wav, 32; by default 16. Must be None for compressed formats.
        tags: Texts to store in the file, in UTF-8, by the keys of `audio.tags.texts.NAMES`: "title", "comment", "software" and
            others. Empty ones are left out.

    Returns:
        The whole content of the file.

    Raises:
        AudioFileError: The format is unknown, or does not support this number of bits, sample rate or number of channels; there
            are no frames; samples are not finite; or the texts are too long.
    """
    import soundfile

    format, depth = audio_format(suffix, bits)
    audio = np.asarray(samples)
    if audio.ndim != 2 or audio.dtype.kind != "f":
        raise AudioFileError(
            f"the samples have shape {audio.shape} and dtype {audio.dtype}, expected float32 [channels, frames]"
        )
    refused = f"{len(audio)} channels at {sample_rate} Hz cannot be written as {suffix}"
    if problem := _problem(audio, sample_rate, format, depth):
        raise AudioFileError(f"{refused}: {problem}")
    audio = audio if depth == 32 else np.clip(audio, -1, 1)
    rate = sample_rate
    if format.rate is not None and rate != format.rate:
        audio, rate = np.clip(resampled(audio, rate, format.rate), -1, 1), format.rate
    stream = io.BytesIO()
    try:
        with soundfile.SoundFile(stream, "w", int(rate), len(audio), format.codecs[depth], format=format.container) as file:
            _write(file, audio)
        return kinds.with_texts(stream.getvalue(), tags or {})
    except soundfile.LibsndfileError as error:
        # Without the name of the stream, which says nothing to a person.
        raise AudioFileError(f"{refused}: {error.error_string}") from error
    except (OSError, RuntimeError, ValueError) as error:
        raise AudioFileError(f"{refused}: {error}") from error


def _problem(audio: Array, sample_rate: int, format: Format, depth: int) -> str:
    """Why a format cannot hold audio; "" if it can, or if libsndfile finds it."""
    channels, frames = audio.shape
    if channels < 1 or not isinstance(sample_rate, (int, np.integer)) or sample_rate < 1:
        return "expected at least one channel, and a whole number of 1 Hz or more"
    if frames < 1:
        return "the clip is empty, expected at least one frame"
    if not np.isfinite(audio).all():
        return "there are NaN or infinite samples, expected finite ones"
    if format.codecs[depth] == "VORBIS" and (channels > VORBIS_CHANNELS or sample_rate > VORBIS_RATE):
        return f"expected at most {VORBIS_CHANNELS} channels and {VORBIS_RATE} Hz"
    if format.container == "WAV" and audio.size * depth // 8 > WAV_BYTES:
        return "there are more than 4 GB of samples; write .flac, or fewer bits"
    return ""


def _write(file: SoundFile, audio: Array) -> None:
    for start in range(0, audio.shape[1], BLOCK):
        file.write(audio[:, start : start + BLOCK].T)


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
    """Read the texts that are stored in an audio file. Its sound is not looked at.

    Returns:
        Texts by the keys of `audio.tags.texts.NAMES`, such as "title" and "comment". Those that the file does not have are left
        out.

    Raises:
        AudioFileError: The file is missing, is no ordinary file, is none of the formats that clips are written in, or its texts
            are damaged or too long.
    """
    expected = f"expected one of {', '.join(AUDIO_FORMATS)}"
    with _audio_errors(path), open_ordinary(Path(path), error=AudioFileError) as stream:
        found = kinds.read(stream)
    if found is None:
        what = foreign_file(path).partition(";")[0]
        reason = f"{what}, {expected}" if what else expected
        raise AudioFileError(f"{path} cannot be read as audio: {reason}")
    return found


def file_digest(path: str | Path) -> str | None:
    """SHA-256 of a file, in hexadecimal; None of one so large that reading it whole would take longer than a clip.

    Raises:
        AudioFileError: The file is missing, is no ordinary file, or cannot be read.
    """
    with _audio_errors(path), open_ordinary(Path(path), error=AudioFileError) as stream:
        if os.fstat(stream.fileno()).st_size > LARGEST_DIGESTED:
            return None
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextlib.contextmanager
def _audio_errors(path: str | Path) -> Iterator[None]:
    """Whatever goes wrong with a file that is read becomes an error of ours."""
    try:
        yield
    except AudioFileError:
        raise
    except MemoryError as error:
        found = f"{path} says that it is longer than there is memory for"
        raise NotEnoughMemoryError(f"{found}; cut it, or write it again with another program") from error
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        # Without what libsndfile and Python repeat before it.
        reason = foreign_file(path, error) or getattr(error, "error_string", None) or getattr(error, "strerror", None) or error
        raise AudioFileError(f"{path} cannot be read as audio: {reason}") from error
