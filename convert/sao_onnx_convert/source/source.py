"""Where a model's files are: what all such places have in common, and a folder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path

from sao_onnx_convert.errors import CheckpointError, ConversionError
from sao_onnx_convert.source.file_names import PICKLES

Report = Callable[[str, int, int], None]
"""Is called with the name of a file that is being downloaded, the bytes that have arrived, and its size in bytes."""


class Source(ABC):
    """Files of a model.

    Attributes:
        name: Short name: the folder's, or the repository's without its owner.
        origin: Repository, or the folder's name; what the bundle's manifest records.
        title: What messages call it: the folder's path, or the repository.
        revision: Commit of the repository, None for a folder.
        names: Paths of all its files, with `/`.
        base: The folder among them that the user named, ending in `/`; "" for the whole.
        file: The file among them that the user named; None if it was none.
        complete: Whether `names` are all; otherwise they are those that this machine has.
    """

    complete = True

    def __init__(
        self,
        name: str,
        origin: str,
        title: str,
        revision: str | None,
        names: Sequence[str],
        *,
        base: str = "",
        file: str | None = None,
    ) -> None:
        self.name = name
        self.origin = origin
        self.title = title
        self.revision = revision
        self.names = tuple(names)
        self.base = base
        self.file = file

    @property
    def beside(self) -> list[str]:
        """Names of the files in the folder that the user named, without that folder."""
        own = (name.removeprefix(self.base) for name in self.names if name.startswith(self.base))
        return [name for name in own if "/" not in name]

    @abstractmethod
    def absent(self, names: Sequence[str]) -> dict[str, int]:
        """Files that would have to be downloaded, with the bytes still to come (0 where the hub does not say)."""

    def lacking(self, names: Sequence[str], remedy: str) -> ConversionError:
        """The error to raise where a model needs files that are not among `names`.

        Args:
            names: The files.
            remedy: What to do.
        """
        return CheckpointError(f"{self.title} lacks {' and '.join(names)}; {held(self.names)}; {remedy}")

    @abstractmethod
    def fetch(self, names: Sequence[str], report: Report | None = None) -> Path:
        """Bring files to this machine.

        Args:
            names: Some of `names`, at least one.
            report: Called about twice a second during a download.

        Returns:
            The folder in which they lie under their names.

        Raises:
            DownloadError: A file could not be brought here whole.
            CheckpointNotFoundError: It is not there, or there is no right to it.
            DiskSpaceError: The disk is full.
        """


class Folder(Source):
    """A folder with its subfolders.

    Args:
        folder: The folder.
        base: The subfolder with the model, ending in `/`; "" for the folder itself.
        file: The file in it that the user named; the model is called after it.
    """

    def __init__(self, folder: Path, base: str = "", file: str | None = None) -> None:
        paths = [path for pattern in ("*", "*/*") for path in folder.glob(pattern) if path.is_file()]
        origin = folder.resolve().name
        names = sorted(path.relative_to(folder).as_posix() for path in paths)
        name = Path(file).stem if file else origin
        super().__init__(name, origin, str(folder), None, names, base=base, file=file)
        self.folder = folder

    def absent(self, names: Sequence[str]) -> dict[str, int]:
        return {}

    def fetch(self, names: Sequence[str], report: Report | None = None) -> Path:
        return self.folder


def held(names: Sequence[str], most: int = 12) -> str:
    """What a folder or repository holds, for a message: weights first, then configurations, then the rest."""
    if not names:
        return "it is empty"

    def rank(name: str) -> tuple[bool, bool, int, str]:
        return not name.endswith((".safetensors", *PICKLES)), not name.endswith((".json", ".model")), name.count("/"), name

    shown = sorted((name for name in names if not name.rpartition("/")[2].startswith(".")), key=rank) or sorted(names)
    rest = len(shown) - most
    return f"it holds {', '.join(shown[:most])}" + (f" and {rest} more" if rest > 0 else "")
