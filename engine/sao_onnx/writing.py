"""Files are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from sao_onnx.errors import FileError, OutputExistsError


def require_free(path: Path, overwrite: bool, *, error: type[FileError] = FileError) -> None:
    """Check, before work begins, that a file can be put at a path.

    Args:
        path: The file.
        overwrite: The file may exist already.
        error: Class of the error that is raised.

    Raises:
        OutputExistsError: The file exists and `overwrite` is false.
        FileError: The path is a folder, or its folder does not exist; of the class `error`.
    """
    if path.is_dir():
        raise error(f"{path} is a folder; give a file name")
    if not path.parent.is_dir():
        raise error(f"the folder {path.parent} does not exist; create it first")
    if path.exists() and not overwrite:
        raise _exists(path)


def write_whole(path: Path, data: bytes, *, overwrite: bool = False, error: type[FileError] = FileError) -> None:
    """Write a file so that other programs see all of its bytes or no file.

    The bytes go to a hidden file in the same folder, which gets its final name once they are on the disk. If anything fails, or
    the program is interrupted, the hidden file is removed and what was at the path stays.

    Args:
        path: The file. Its folder must exist.
        data: What to write.
        overwrite: Replace the file if it exists.
        error: Class of the error that is raised.

    Raises:
        OutputExistsError: The file exists and `overwrite` is false.
        FileError: The file cannot be written; of the class `error`.
    """
    require_free(path, overwrite, error=error)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        with partial.open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        if overwrite:
            partial.replace(path)
        else:
            _rename_to_new(partial, path)
    except FileExistsError as problem:
        raise _exists(path) from problem
    except OSError as problem:
        raise error(f"{path} cannot be written: {problem.strerror or problem}") from problem
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def _exists(path: Path) -> OutputExistsError:
    return OutputExistsError(f"{path} exists; use --force (overwrite=True) to replace it, or another name")


def _rename_to_new(source: Path, target: Path) -> None:
    """Give a file another name, but never replace a file that has that name.

    Raises:
        FileExistsError: There is a file of that name.
    """
    try:
        target.hardlink_to(source)
    except FileExistsError:
        raise
    except OSError:
        # File systems of memory cards often have no hard links. `require_free` found the name unused a moment ago.
        if target.exists():
            raise FileExistsError(target) from None
        source.replace(target)
