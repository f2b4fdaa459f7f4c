"""The names that a user gave to bundles elsewhere, and the model that is used where none is named: one file of the user's."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from sao_onnx.bundle.schema import SchemaError, read
from sao_onnx.errors import BundleError, FileError
from sao_onnx.places import user_path
from sao_onnx.reading import parse_json, read_small
from sao_onnx.writing import write_whole

LARGEST = 1_000_000
"""Bytes of the file."""


@dataclass(frozen=True)
class Known:
    """What the file holds.

    Attributes:
        folders: Whole paths of bundles, by the names that the user gave them.
        default: Name of the model that is used where none is named; None for the package's.
    """

    folders: dict[str, str] = field(default_factory=dict)
    default: str | None = None

    def with_name(self, name: str, folder: Path) -> Known:
        """With another name, or another folder for one."""
        return replace(self, folders=self.folders | {name: str(folder)})

    def without(self, name: str) -> Known:
        """Without a name, which is no default either."""
        folders = {known: folder for known, folder in self.folders.items() if known != name}
        return Known(folders, None if self.default == name else self.default)


def known_file() -> Path:
    """The file. It need not exist.

    Raises:
        FileError: The user has no home folder, and no variable names another one.
    """
    return user_path("data") / "models.json"


def read_known() -> Known:
    """What the user named; nothing where there is no file, or no home for one.

    Raises:
        BundleError: The file cannot be read. The message names it.
    """
    try:
        path = known_file()
    except FileError:
        return Known()
    try:
        return read(Known, parse_json(read_small(path, LARGEST).decode("utf-8")))
    except FileNotFoundError:
        return Known()
    except (FileError, SchemaError, ValueError) as error:
        raise BundleError(f"{path} holds no names of models: {error}; remove it, and name your models again") from error


def write_known(known: Known) -> None:
    """Keep what the user named.

    Raises:
        FileError: It cannot be written, or a path is no text that a file can hold.
    """
    path = known_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        data = json.dumps(asdict(known), indent=1, ensure_ascii=False).encode()
    except OSError as error:
        raise FileError(f"{path.parent} cannot be made: {error.strerror or error}") from error
    except UnicodeEncodeError:
        raise FileError("the path of the bundle is no UTF-8 text; rename the folder") from None
    write_whole(path, data + b"\n", overwrite=True)
