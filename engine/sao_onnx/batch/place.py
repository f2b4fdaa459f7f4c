"""What is asked of a place that the clips of a list go to."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from sao_onnx.request import Request


class Place(Protocol):
    """Takes files, each whole or not at all. Can be pickled, and is the same place on every machine that reaches it."""

    def path(self, name: str) -> str:
        """A file as it is told to people and programs."""

    def make(self) -> None:
        """Make the place, if it is not there.

        Raises:
            FileError: It cannot be made.
        """

    def is_there(self, name: str) -> bool:
        """Whether there is anything of a name."""

    def require_free(self, name: str, overwrite: bool) -> None:
        """Check, before work begins, that a file can be written.

        Raises:
            OutputExistsError: It exists and `overwrite` is false.
            FileError: It cannot be written.
        """

    def require_own(self, name: str, request: Request) -> None:
        """Refuse a file whose writing could do harm that `overwrite` does not mean.

        Raises:
            RequestError: It is what the request starts from.
            OutputExistsError: It leads out of the place.
        """

    def write(self, name: str, data: bytes, overwrite: bool) -> None:
        """Write a file so that others see all of its bytes or no file; raises as `require_free` does."""

    def reading(self, name: str) -> AbstractContextManager[Path]:
        """A file as one of this machine, which can be read in the block.

        Raises:
            FileError: It cannot be read.
        """

    def is_usable(self) -> bool:
        """Whether other files could be written."""

    def tidy(self) -> None:
        """Remove what killed programs left half written, as far as that can be told."""
