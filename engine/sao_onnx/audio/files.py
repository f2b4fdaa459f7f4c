"""Files in and out: audio in any format that libsndfile knows, and outputs that are whole or absent."""

from __future__ import annotations

import contextlib
import io
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sao_onnx.arrays import Array
from sao_onnx.errors import AudioFileError, OutputExistsError


@dataclass(frozen=True)
class Format:
    """A kind of audio file.

    Attributes:
        container: libsndfile's name.
        codecs: libsndfile's names of the encodings by bits a sample, the usual first; 0 for those that have none.
        rate: The only sample rate in hertz that it takes, or None.
        unicode: Whether its tags keep all characters. libsndfile takes those of MP3 for Latin-1.
    """

    container: str
    codecs: dict[int, str]
    rate: int | None = None
    unicode: bool = True


FORMATS = {
    ".wav": Format("WAV", {16: "PCM_16", 24: "PCM_24", 32: "FLOAT"}),
    ".flac": Format("FLAC", {16: "PCM_16", 24: "PCM_24"}),
    ".ogg": Format("OGG", {0: "VORBIS"}),
    ".opus": Format("OGG", {0: "OPUS"}, rate=48_000),
    ".mp3": Format("MP3", {0: "MPEG_LAYER_III"}, unicode=False),
}
"""What a clip can be saved as, by the suffix of the file."""


def audio_format(suffix: str, bits: int | None) -> tuple[Format, int]:
    """The format of a suffix, and the bits a sample that it shall have.

    Raises:
        AudioFileError: The format is unknown, or does not come with so many bits.
    """
    format = FORMATS.get(suffix.lower())
    if format is None:
        raise AudioFileError(f"files cannot be written as {suffix or 'files without a suffix'!r}; known: {', '.join(FORMATS)}")
    if bits is not None and bits not in format.codecs:
        offered = ", ".join(str(b) for b in format.codecs if b)
        raise AudioFileError(
            f"{suffix} files cannot have {bits} bits a sample; "
            + (f"known: {offered}" if offered else "they are compressed; leave the bits out")
        )
    return format, next(iter(format.codecs)) if bits is None else bits


VORBIS_CHANNELS = 255
VORBIS_RATE = 200_000
"""What Vorbis can hold, the rate in hertz. libsndfile does not check it and would end the process."""


def read_audio(path: str | Path) -> tuple[Array, int]:
    """Read an audio file.

    Returns:
        float32 [channels, frames], full scale at 1, and the sample rate in hertz.

    Raises:
        AudioFileError: The file is missing, not audio, or damaged.
    """
    import soundfile

    try:
        samples, sample_rate = soundfile.read(os.fspath(path), dtype="float32", always_2d=True)
    except (OSError, RuntimeError, TypeError) as error:  # soundfile.LibsndfileError is a RuntimeError.
        raise AudioFileError(f"{path} cannot be read as audio: {error}") from error
    return np.ascontiguousarray(samples.T), int(sample_rate)


def encode_audio(
    samples: Array, sample_rate: int, suffix: str = ".wav", *, bits: int | None = None, tags: Mapping[str, str] | None = None
) -> bytes:
    """The bytes of an audio file.

    Samples beyond full scale are clipped, but for 32 bits, which are floating point. Opus knows no 44.1 kHz, so that what is
    written as Opus is resampled to 48.

    Args:
        samples: float32 [channels, frames].
        sample_rate: In hertz.
        suffix: One of `FORMATS`.
        bits: A sample; 16, 24 or, in .wav, 32. By default 16. Compressed formats have none.
        tags: Text to store in the file by its name in libsndfile: "title", "comment", "software" and the like. In MP3,
            characters beyond ASCII become question marks.

    Raises:
        AudioFileError: The format is unknown, has not so many bits, or refuses this rate or channel count.
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
        import soxr

        audio, rate = np.clip(soxr.resample(audio.T, rate, format.rate, quality="VHQ").T, -1, 1), format.rate
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


def read_tags(path: str | Path) -> dict[str, str]:
    """Text stored in an audio file, by its name in libsndfile; only what is there.

    Raises:
        AudioFileError: The file is missing, not audio, or damaged.
    """
    import soundfile

    try:
        with soundfile.SoundFile(os.fspath(path)) as file:
            tags: dict[str, str] = file.copy_metadata()
    except (OSError, RuntimeError, TypeError) as error:
        raise AudioFileError(f"{path} cannot be read as audio: {error}") from error
    return tags


def require_free(path: Path, overwrite: bool) -> None:
    """Refuse an output that exists, or whose folder does not.

    Raises:
        OutputExistsError: The file exists and `overwrite` is not set.
        AudioFileError: It is a folder, or there is no folder to put it in.
    """
    if path.is_dir():
        raise AudioFileError(f"{path} is a folder; give a file name")
    if not path.parent.is_dir():
        raise AudioFileError(f"the folder {path.parent} does not exist; create it first")
    if path.exists() and not overwrite:
        raise OutputExistsError(f"{path} exists; use --force (overwrite=True) to replace it, or another name")


def write_whole(path: Path, data: bytes, *, overwrite: bool = False) -> None:
    """Write a file so that it is there with all its bytes or not at all.

    Raises:
        OutputExistsError: The file exists and `overwrite` is not set.
        AudioFileError: It cannot be written; nothing is left behind.
    """
    require_free(path, overwrite)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        with partial.open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        if overwrite:
            partial.replace(path)
        else:
            _move_to_new(partial, path)
    except FileExistsError as error:
        raise OutputExistsError(f"{path} exists; use --force (overwrite=True) to replace it, or another name") from error
    except OSError as error:
        raise AudioFileError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def _move_to_new(source: Path, target: Path) -> None:
    """Give a file its name without ever replacing another one."""
    try:
        target.hardlink_to(source)
    except FileExistsError:
        raise
    except OSError:
        # Memory cards are often formatted without hard links. The name was free a moment ago.
        if target.exists():
            raise FileExistsError(target) from None
        source.replace(target)
