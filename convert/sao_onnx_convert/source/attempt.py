"""A request to the hub, as an error message describes it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Attempt:
    """What was being done when it failed.

    Attributes:
        repository: `owner/name`.
        revision: The one that was asked for, None for the main branch.
        endpoint: Address of the hub.
        cache: Folder of downloads.
        file: The file that was to be brought, None for the list of files.
        arrived: Bytes of it that are kept for the next try.
        size: Its size where that is known.
    """

    repository: str
    revision: str | None
    endpoint: str
    cache: Path
    file: str | None = None
    arrived: int = 0
    size: int | None = None

    @property
    def page(self) -> str:
        """Address of the repository, for a person."""
        return f"{self.endpoint}/{self.repository}"

    @property
    def what(self) -> str:
        """The file or the repository."""
        return f"{self.file} of {self.repository}" if self.file else self.repository

    @property
    def kept(self) -> str:
        """What has arrived and is kept, in brackets; empty where nothing has."""
        return f" (the {megabytes(self.arrived)} that have arrived are kept)" if self.arrived else ""


def megabytes(size: int) -> str:
    """A number of bytes for a person."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
