"""A part of an audio file, for a model to start from.

No more of the file is read than is needed. Files come from anybody, so nothing that a header claims decides about memory.
"""

from __future__ import annotations

import re
import stat
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sao_onnx.arrays import Array
from sao_onnx.audio.files import sound_path
from sao_onnx.audio.foreign import foreign_file
from sao_onnx.audio.prepare import BLOCK, Part, converted, require_sound
from sao_onnx.errors import AudioFileError, SaoOnnxError
from sao_onnx.places import address_in_words

EXACT_FORMATS = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC")
EXACT_CODECS = ("PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW")
"""Where a frame can be found without the ones before it, and the header knows how many there are. In all others, decoders need
what comes before (MP3, Opus), so they are decoded from the beginning."""

UNKNOWN_LENGTH = 2**63 - 1
"""libsndfile's for a FLAC file that was written without knowing its end."""


def read_part(path: str | Path, part: Part) -> Array:
    """Read a part of an audio file in any format that libsndfile knows, and convert it to the form of a model.

    Args:
        path: The file.
        part: What is read. How channels are mixed is described at `converted`.

    Returns:
        float32 [channels, frames], where 1 is full scale; less than `part.frames` where the file ends before.

    Raises:
        AudioFileError: The file is missing, is no audio file, holds no audio, or is damaged.
        RequestError: The part begins after the end of the file.
    """
    import soundfile

    class Forward(soundfile.SoundFile):  # type: ignore[misc,unused-ignore]
        """Reads on without seeking after every block, which some decoders take for a new beginning."""

        def seekable(self) -> bool:
            return False

    def refusal(problem: str) -> SaoOnnxError:
        return AudioFileError(f"{path} {problem}")

    _require_file(path)
    try:
        with Forward(sound_path(path)) as file:
            require_sound(file.samplerate, file.channels, part, refusal)
            first, left_out = part.place(file.samplerate)
            sound = _Sound(file)
            found = converted(sound.blocks(first), file.samplerate, part, left_out, refusal)
    except SaoOnnxError:
        raise
    except soundfile.LibsndfileError as error:
        # The file is there: 7 is what libsndfile says where its MP3 decoder finds nothing.
        reason = foreign_file(path, error) or ("Format not recognised." if error.code == 7 else error.error_string)
        raise refusal(f"cannot be read as audio: {reason}") from error
    except (OSError, RuntimeError, TypeError) as error:  # TypeError: a file of raw samples, without a header.
        raise refusal(f"cannot be read as audio: {foreign_file(path, error) or error}") from error
    if sound.cut_off is not None:
        raise refusal(f"is cut off or damaged: it should hold {sound.cut_off} frames, and ends after {sound.position}")
    if not sound.position:
        raise refusal("is empty, expected at least one frame of audio")
    if not found.size:
        raise part.beyond(sound.position / file.samplerate)
    return found


def require_whole(path: str | Path) -> None:
    """Read an audio file to its end.

    Raises:
        AudioFileError: It is damaged, or shorter than its header says. The headers of compressed formats do not say it.
    """
    import soundfile

    try:
        with soundfile.SoundFile(sound_path(path)) as file:
            sound = _Sound(file)
            deque(sound.blocks(0), maxlen=0)
    except (OSError, RuntimeError, TypeError) as error:
        raise AudioFileError(f"{path} cannot be read as audio: {error}") from error
    if sound.cut_off is not None:
        raise AudioFileError(f"{path} is cut off: it should hold {sound.cut_off} frames, and ends after {sound.position}")


def _require_file(path: str | Path) -> None:
    """Refuse what is no ordinary file: a FIFO or a device could wait for ever, or never end."""
    try:
        # Before it is opened, which some devices take notice of, and a FIFO waits for.
        mode = Path(path).stat().st_mode
        if stat.S_ISREG(mode):
            with Path(path).open("rb"):  # libsndfile does not tell why it could not.
                return
    except (FileNotFoundError, NotADirectoryError) as error:
        hint = f"; {address}: download it first" if (address := address_in_words(path)) else ""
        raise AudioFileError(f"{path} does not exist{hint}") from error
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path.
        raise AudioFileError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if stat.S_ISDIR(mode):
        raise AudioFileError(f"{path} is a folder, expected an audio file")
    raise AudioFileError(f"{path} is not an ordinary file, expected an audio file")


class _Sound:
    """An open file, read forwards.

    Attributes:
        position: Frames up to where it was read; all of them once it was read to its end.
        cut_off: Frames that it should hold, once it was read to its end and holds less; otherwise None.
    """

    def __init__(self, file: Any) -> None:
        self._file = file
        self._exact = file.format in EXACT_FORMATS and file.subtype in EXACT_CODECS and file.frames != UNKNOWN_LENGTH
        self.position = 0
        self.cut_off: int | None = None

    def blocks(self, first: int) -> Iterator[Array]:
        """What is there from a frame on: float32 [frames, channels] each."""
        if self._exact and first:
            self.position = min(first, self._file.frames)
            if self.position == self._file.frames:
                return
            self._file.seek(self.position)
        size = BLOCK // self._file.channels
        while len(block := self._file.read(size, dtype="float32", always_2d=True)):
            unwanted = max(0, first - self.position)
            self.position += len(block)
            if unwanted < len(block):
                yield block[unwanted:]
        claimed = self._claimed()
        self.cut_off = claimed if self._exact and self.position < claimed else None

    def _claimed(self) -> int:
        """Frames that the header claims.

        libsndfile corrects those of a WAV file by its size, and tells in its log. The length of a WAV file that went through a
        pipe is not known to its header, which has a number of about 2 or 4 GB then.
        """
        size = re.search(r"^RIFF : (\d+) \(should be (\d+)\)$", self._file.extra_info, re.MULTILINE)
        data = re.search(r"^data : (\d+) \(should be (\d+)\)$", self._file.extra_info, re.MULTILINE)
        frames = int(self._file.frames)
        if size and data and int(size[2]) < int(size[1]) < 2**31 - 2**20 and int(data[2]):
            return max(frames, frames * int(data[1]) // int(data[2]))
        return frames
