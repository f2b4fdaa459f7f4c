"""Files are written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from sao_onnx.errors import FileError, OutputExistsError
from sao_onnx.locks import lock
from sao_onnx.places import address_in_words

PARTIAL = re.compile(r"\.sao-onnx-[0-9a-f]{16}\.partial")
"""Names of files that are being written. Short, whatever the final name is: file systems limit the bytes of a name."""

ATTEMPTS = 3
"""To write a file that has its name for itself."""

_unfinished: set[Path] = set()
_beginning = threading.Lock()


def require_free(path: Path, overwrite: bool, *, error: type[FileError] = FileError) -> None:
    """Check, before work begins, that a file can be put at a path: its folder takes an empty file, which is removed again.

    Args:
        path: The file.
        overwrite: The file may exist already.
        error: Class of the error that is raised.

    Raises:
        OutputExistsError: The file exists and `overwrite` is false.
        FileError: The path cannot be the name of a file, is a folder, a device or a pipe, or its folder does not exist or
            cannot be written to; of the class `error`.
    """
    with _file_errors(path, error):
        target = _target(path, overwrite)
        # Permissions alone do not tell: there are access lists, read-only disks, and users who may do everything.
        with _partial(target.parent):
            pass


def write_whole(path: Path, data: bytes, *, overwrite: bool = False, error: type[FileError] = FileError) -> None:
    """Write a file so that other programs see all of its bytes or no file.

    The bytes go to a hidden file in the same folder, which gets its final name once they are on the disk. If anything fails, or
    the program is interrupted, the hidden file is removed and what was at the path stays. Where the program was killed, the
    hidden file is removed by the next one that writes to the folder.

    Args:
        path: The file. Its folder must exist. Where it is a link, the file that the link leads to is written.
        data: What to write.
        overwrite: Replace the file if it exists.
        error: Class of the error that is raised.

    Raises:
        OutputExistsError: The file exists and `overwrite` is false.
        FileError: The file cannot be written; of the class `error`.
    """
    with _file_errors(path, error):
        target = _target(path, overwrite)
        remove_abandoned(target.parent)
        for _ in range(ATTEMPTS - 1):
            # Where locks do not reach other machines, one of them may take the hidden file for abandoned.
            with contextlib.suppress(FileNotFoundError):
                _write(target, data, overwrite)
                return
        _write(target, data, overwrite)


def _write(target: Path, data: bytes, overwrite: bool) -> None:
    """Write a file by way of a hidden one."""
    with _partial(target.parent) as (stream, partial):
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
        if sys.platform == "win32":
            stream.close()  # No open file can be renamed there.
        if overwrite:
            with contextlib.suppress(OSError):  # There is none yet, or it may not be kept.
                partial.chmod(stat.S_IMODE(target.stat().st_mode))
            partial.replace(target)
        else:
            _rename_to_new(partial, target)


def remove_unfinished() -> None:
    """Remove every file that this process is writing, in whichever thread, and let none be begun. Only for its end."""
    _beginning.acquire(timeout=1)  # The thread that has it may be this one, which was interrupted.
    for partial in tuple(_unfinished):
        with contextlib.suppress(OSError):
            partial.unlink()


@contextlib.contextmanager
def _file_errors(path: Path, error: type[FileError]) -> Iterator[None]:
    """Turn what the operating system says of a path into errors of ours."""
    try:
        yield
    except FileError as problem:
        raise (problem if isinstance(problem, OutputExistsError) else error(str(problem))) from problem.__cause__
    except FileExistsError as problem:
        raise _exists(path) from problem
    except OSError as problem:
        raise error(f"{path} cannot be written: {problem.strerror or problem}") from problem
    except ValueError as problem:  # A character that no name can have, or not in the encoding of this system.
        raise error(f"{path!r} cannot be the name of a file: {problem}") from problem


def _target(path: Path, overwrite: bool) -> Path:
    """The file to be written: where a link leads to, or the path itself.

    Raises:
        FileError: No file can be put there.
        OSError: The system says so.
        ValueError: The path cannot be a name.
    """
    target = Path(os.path.realpath(path)) if path.is_symlink() else path
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        mode = None
    if mode is not None and stat.S_ISDIR(mode):
        raise FileError(f"{path} is a folder; give a file name")
    if not target.parent.is_dir():
        if address := address_in_words(path):
            raise FileError(f"{address}, expected a file on this machine; only `sao-onnx batch` writes to addresses")
        raise FileError(f"the folder {target.parent} does not exist; create it first")
    if mode is not None and not stat.S_ISREG(mode):
        raise FileError(f"{path} is a device or a pipe, expected a file")
    if not overwrite and (mode is not None or path.is_symlink()):
        raise _exists(path)
    return target


@contextlib.contextmanager
def _partial(folder: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """A new hidden file and its path. It is locked while it is open, and gone at the end unless it has got another name."""
    partial = folder / f".sao-onnx-{os.urandom(8).hex()}.partial"
    try:
        with _begun(partial) as stream:
            yield stream, partial
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        _unfinished.discard(partial)


def _begun(partial: Path) -> BinaryIO:
    """The hidden file, opened and locked."""
    with _beginning:
        _unfinished.add(partial)
        while True:
            stream = partial.open("xb")
            if sys.platform == "win32":
                return stream
            with contextlib.suppress(OSError):  # Not every file system has locks.
                lock(stream.fileno(), wait=True)
            if os.fstat(stream.fileno()).st_nlink:
                return stream
            # Another program took it for abandoned before it was locked.
            stream.close()


def remove_abandoned(folder: Path) -> None:
    """Remove what killed programs left in a folder: hidden files of ours that nobody holds locked any longer.

    Not on Windows, and not on file systems without locks, where the files of programs that still run look the same.
    """
    if sys.platform == "win32":
        return
    found: list[str] = []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        found += [entry.path for entry in entries if PARTIAL.fullmatch(entry.name)]
    for partial in found:
        with contextlib.suppress(OSError):
            descriptor = os.open(partial, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                if lock(descriptor):
                    Path(partial).unlink()
            finally:
                os.close(descriptor)


def _exists(path: Path) -> OutputExistsError:
    return OutputExistsError(f"{path} exists; choose another name, or allow it to be replaced (--force)")


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
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
        source.replace(target)
