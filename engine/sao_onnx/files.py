"""Files in and out: audio in any format that libsndfile knows, and outputs that are whole or absent."""

from __future__ import annotations

import contextlib
import io
import os
import secrets
from pathlib import Path
from typing import Any

import numpy as np

from sao_onnx.errors import AudioFileError, OutputExistsError

Array = np.ndarray[Any, np.dtype[np.float32]]

FORMATS = {".wav": "WAV", ".flac": "FLAC", ".ogg": "OGG"}
"""libsndfile's name of the format for each file suffix that a clip can be saved as."""


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


def encode_audio(samples: Array, sample_rate: int, suffix: str = ".wav") -> bytes:
    """The bytes of an audio file.

    Integer formats get 16 bits; samples beyond full scale are clipped.

    Args:
        samples: float32 [channels, frames].
        sample_rate: In hertz.
        suffix: One of `FORMATS`.

    Raises:
        AudioFileError: The format is unknown or refuses this rate or channel count.
    """
    import soundfile

    if suffix.lower() not in FORMATS:
        raise AudioFileError(f"files cannot be written as {suffix or 'files without a suffix'!r}; known: {', '.join(FORMATS)}")
    stream = io.BytesIO()
    try:
        soundfile.write(stream, np.clip(samples, -1, 1).T, sample_rate, format=FORMATS[suffix.lower()])
    except (OSError, RuntimeError, ValueError) as error:
        raise AudioFileError(f"{len(samples)} channels at {sample_rate} Hz cannot be written as {suffix}: {error}") from error
    return stream.getvalue()


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
