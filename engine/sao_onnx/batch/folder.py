"""A folder for the clips of a list."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sao_onnx.errors import FileError, OutputExistsError, RequestError
from sao_onnx.request import Request, initial_file
from sao_onnx.writing import remove_abandoned, require_free, write_whole


class Folder:
    """A folder; see `Place`. Where it arrives pickled, it is the same path from whatever working folder.

    Args:
        folder: Its path.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return Folder, (self._folder.absolute(),)

    def path(self, name: str) -> str:
        """A file as it is told to people and programs."""
        return str(self._folder / name)

    def make(self) -> None:
        """Make the folder, with those above it.

        Raises:
            FileError: It cannot be made.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError) as error:
            raise FileError(f"{self._folder} cannot be made a folder: {getattr(error, 'strerror', None) or error}") from error

    def is_there(self, name: str) -> bool:
        """Whether there is anything of a name, a link that leads nowhere among it."""
        return os.path.lexists(self._folder / name)

    def require_free(self, name: str, overwrite: bool) -> None:
        """Check, before work begins, that a file can be written; see `writing.require_free`."""
        require_free(self._folder / name, overwrite)

    def require_own(self, name: str, request: Request) -> None:
        """Refuse to write over what the request starts from, and through links.

        Raises:
            RequestError: The file is the initial audio.
            OutputExistsError: It is a link.
        """
        path, init = self._folder / name, initial_file(request)
        if init is not None and path.exists() and init.exists() and path.samefile(init):
            raise RequestError(f"{path} is the audio that the clip starts from; choose another name")
        if path.is_symlink():
            raise OutputExistsError(f"{path} is a link, which could lead out of the folder; choose another name")

    def write(self, name: str, data: bytes, overwrite: bool) -> None:
        """Write a file whole or not at all; see `writing.write_whole`."""
        write_whole(self._folder / name, data, overwrite=overwrite)

    @contextlib.contextmanager
    def reading(self, name: str) -> Iterator[Path]:
        """The file itself."""
        yield self._folder / name

    def is_usable(self) -> bool:
        """Whether files can be made in the folder, as far as its permissions tell."""
        return self._folder.is_dir() and os.access(self._folder, os.W_OK | os.X_OK)

    def tidy(self) -> None:
        """Remove the hidden files that killed programs left."""
        remove_abandoned(self._folder)
