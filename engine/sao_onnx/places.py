"""Folders of the user's."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Literal

import platformdirs

from sao_onnx.errors import FileError


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
