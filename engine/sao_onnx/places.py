"""Folders of the user's."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import Literal

import platformdirs

from sao_onnx.errors import FileError

SCHEMES = (
    *("abfs", "abfss", "adl", "az", "dropbox", "file", "ftp", "gcs", "gdrive", "github", "gs", "hdfs", "hf"),
    *("http", "https", "memory", "oci", "s3", "s3a", "sftp", "smb", "ssh", "webhdfs"),
)
"""Beginnings of addresses. A drive of Windows has one letter, and other names with a colon are names."""


def meant_address(text: str | Path) -> str:
    """The address that a path was meant as: s3://b of s3:b, s3:/b and s3://b. "" for any other, and for what is there.

    `./s3:b` is a path.
    """
    found = re.match(rf"({'|'.join(SCHEMES)}):/*(?=[^/\s])", str(text), re.IGNORECASE)
    with contextlib.suppress(ValueError):  # A zero byte in the path.
        if found is not None and os.path.lexists(text):
            return ""
    return "" if found is None else f"{found[1].lower()}://{str(text)[found.end() :]}"


def address_in_words(path: str | Path) -> str:
    """The beginning of a message about a path that was meant as an address: as it was typed, and what it is. "" for any other.

    A path of Python's has lost one of two slashes, which is taken as meant.
    """
    if not (address := meant_address(path)):
        return ""
    typed = re.sub(r":/(?!/)", "://", str(path), count=1) if isinstance(path, Path) else path
    return f"{typed} is an address" if typed.lower() == address.lower() else f"{typed} looks like the address {address}"


def expand_home(path: str | Path) -> Path:
    """A path as it is written, but that a first part `~` stands for the user's home folder, where there is one.

    A shell has expanded all else that it would have, so `~x.wav` is the name of a file.
    """
    path = Path(path)
    if path.parts[:1] != ("~",):
        return path
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def folders_and_words(text: str) -> list[str]:
    """The words of a text, where words that together are the path of a folder stay together, as many as can be.

    So a list of models in one variable may name folders with spaces.
    """
    found: list[str] = []
    parts = re.findall(r"\S+\s*", text)
    while parts:
        joined = ("".join(parts[:count]).rstrip() for count in range(len(parts), 1, -1))
        one = next((path for path in joined if _is_folder(path)), parts[0].rstrip())
        found.append(one)
        parts = parts[len(one.split()) :]
    return found


def _is_folder(text: str) -> bool:
    try:
        return expand_home(text).is_dir()
    except (OSError, ValueError):  # Too long for a name.
        return False


def user_path(kind: Literal["config", "data", "state", "cache"]) -> Path:
    """The folder of sao-onnx in which the user's system keeps files of a kind. It need not exist.

    Raises:
        FileError: The user has no home folder, as in some containers, and no variable names another one.
    """
    folder = None
    try:
        match kind:
            case "config":
                folder = platformdirs.user_config_path("sao-onnx")
            case "data":
                folder = platformdirs.user_data_path("sao-onnx")
            case "state":
                folder = platformdirs.user_state_path("sao-onnx")
            case "cache":
                folder = platformdirs.user_cache_path("sao-onnx")
    except RuntimeError:  # Of newer releases of platformdirs; older ones return a path that begins with ~.
        pass
    if folder is None or not folder.is_absolute():
        raise FileError(f"this user has no home folder; set HOME or XDG_{kind.upper()}_HOME to a folder")
    return folder


def music_path() -> Path:
    """The folder of sao-onnx in the user's folder of music. It need not exist.

    Raises:
        FileError: The user has no home folder.
    """
    folder = Path("~")
    with contextlib.suppress(RuntimeError):  # As in `user_path`.
        folder = platformdirs.user_music_path()
    if not folder.is_absolute():
        raise FileError("this user has no home folder, and so no folder of music; name a folder")
    return folder / "sao-onnx"
