"""The one folder that an assistant makes clips in and takes them from."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from sao_onnx.audio.formats import AUDIO_FORMATS
from sao_onnx.clip import Clip
from sao_onnx.errors import FileError, OutputExistsError, RequestError
from sao_onnx.option import shown
from sao_onnx.places import address_in_words
from sao_onnx.slug import slug
from sao_onnx.writing import require_free

NEWEST = 5
"""How many names an error lists."""


class Folder:
    """A folder of clips. Nothing outside of it is read or written, and nothing in it is replaced.

    Args:
        path: The folder. It is made if only its last part is missing.

    Raises:
        FileError: It is no folder, cannot be made, or cannot be written to.
    """

    def __init__(self, path: Path) -> None:
        if address := address_in_words(path):
            raise FileError(f"{address}, expected a folder on this machine")
        try:
            path.mkdir(exist_ok=True)
            # Once and for all: where the working folder or a link leads may change later.
            self.path = path.resolve(strict=True)
        except FileExistsError:
            raise FileError(f"{path} is a file, expected a folder for the clips") from None
        except FileNotFoundError:
            raise FileError(f"{path} cannot be made: the folder {path.parent} does not exist; create it first") from None
        except (OSError, ValueError) as error:  # ValueError: a zero byte in the path.
            raise FileError(f"{path} cannot be made: {getattr(error, 'strerror', None) or error}") from error
        require_free(self.path / "clip.wav", overwrite=True)

    def clip(self, name: str) -> Path:
        """The path of a clip that is there.

        Args:
            name: Of its file in this folder, or the whole path as an answer gave it.

        Raises:
            RequestError: There is none of this name, or it lies outside.
        """
        try:
            found = (self.path / name).resolve()
            there = found.is_file()
        except (OSError, RuntimeError, ValueError):  # A circle of links; a zero byte.
            found, there = self.path, False
        if found.parent != self.path:
            expected = f"expected the name of a file in it{self._known()}"
            raise RequestError(f"{shown(name)} is no clip of the folder {self.path}; {expected}")
        if not there or found.suffix.lower() not in AUDIO_FORMATS:
            raise RequestError(f"there is no clip {shown(name)} in {self.path}{self._known()}")
        return found

    def save(self, clip: Clip, name: str, suffix: str) -> Path:
        """Write a clip under a name that is free.

        Args:
            clip: What is written.
            name: What the file shall be called; becomes letters, digits and hyphens. "" for the prompt and the seed.
            suffix: With its dot, one of `AUDIO_FORMATS`.

        Returns:
            The path.

        Raises:
            FileError: It cannot be written.
        """
        stem = slug(_without_suffix(name)) if name.strip() else f"{slug(clip.provenance.prompt)}-{clip.seed}"
        number = 1
        while True:
            path = self.path / (f"{stem}{suffix}" if number == 1 else f"{stem}-{number}{suffix}")
            number += 1
            if os.path.lexists(path):
                continue
            with contextlib.suppress(OutputExistsError):  # Another call, or another program, was faster.
                return clip.save(path)

    def _known(self) -> str:
        """The end of an error: which clips there are."""
        try:
            entries = [entry for entry in os.scandir(self.path) if Path(entry.name).suffix.lower() in AUDIO_FORMATS]
            entries.sort(key=lambda entry: entry.stat(follow_symlinks=False).st_mtime, reverse=True)
        except OSError:
            return ""
        newest = ", ".join(shown(entry.name) for entry in entries[:NEWEST])
        return f"; the newest are {newest}" if newest else "; it has none yet"


def _without_suffix(name: str) -> str:
    """A name without the ending of an audio file, which the format decides."""
    return next((name[: -len(suffix)] for suffix in AUDIO_FORMATS if name.lower().endswith(suffix)), name)
