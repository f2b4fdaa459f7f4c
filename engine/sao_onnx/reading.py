"""Small files of settings and lists are read with bounds: they may come from anybody."""

from __future__ import annotations

import io
import json
import os
import stat
from pathlib import Path
from typing import Any, NoReturn

from sao_onnx.errors import FileError

# Windows has no such flag, and no FIFOs among its files either.
MAX_DEPTH = 50
"""How deep lists and objects of JSON may be nested."""

TOO_DEEP = f"it is nested more than {MAX_DEPTH} deep"

NONBLOCK = getattr(os, "O_NONBLOCK", 0)


def open_ordinary(path: Path, *, error: type[FileError] = FileError) -> io.BufferedReader:
    """Open a file for reading, if it is an ordinary file. Links are followed.

    A FIFO, a device or a socket could wait for ever, or never end.

    Args:
        path: The file.
        error: Class of the error that is raised.

    Raises:
        FileNotFoundError: There is no such file. Every other failure is of the class `error`.
        FileError: The file cannot be opened, or is not an ordinary file; of the class `error`.
    """
    try:
        # Before it is opened, which some devices take notice of; and after it, because the name may mean another file now.
        if stat.S_ISREG(path.stat().st_mode):
            stream = os.fdopen(os.open(path, os.O_RDONLY | NONBLOCK | getattr(os, "O_BINARY", 0)), "rb")
            if stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                return stream
            stream.close()
    except (FileNotFoundError, NotADirectoryError) as problem:
        raise FileNotFoundError(problem.errno, problem.strerror, str(path)) from problem
    except (OSError, ValueError) as problem:  # ValueError: a zero byte in the path.
        raise error(f"{path} cannot be read: {getattr(problem, 'strerror', None) or problem}") from problem
    raise error(f"{path} cannot be read: it is not an ordinary file")


def read_small(path: Path, limit: int, *, error: type[FileError] = FileError) -> bytes:
    """Read a file whole, if it is an ordinary file of a reasonable size.

    Args:
        path: The file.
        limit: The size that is still read, in bytes.
        error: Class of the error that is raised.

    Raises:
        FileNotFoundError: There is no such file. Every other failure is of the class `error`.
        FileError: The file cannot be read, is not an ordinary file, or is larger; of the class `error`.
    """
    with open_ordinary(path, error=error) as stream:
        try:
            data = stream.read(limit + 1)
        except OSError as problem:
            raise error(f"{path} cannot be read: {problem.strerror or problem}") from problem
    if len(data) > limit:
        raise error(f"{path} is larger than expected: more than {limit:,} bytes")
    return data


def parse_json(text: str) -> Any:
    """Parse JSON as its standard has it, and no more than a computer can use.

    Python's parser also takes NaN and infinities, and halves of characters, which cannot be written to any file.

    Raises:
        ValueError: The text is not JSON, is nested too deeply, or holds a number with too many digits, one that is not finite
            (`NaN`, `1e999`), or half a character (a lone surrogate).
    """
    try:
        data = json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    _require_shallow(data)
    if "\\u" in text or not text.isascii():
        try:
            json.dumps(data, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("it holds half a character (a lone surrogate)") from None
    return data


def _require_shallow(data: Any) -> None:
    level = [data]
    for _ in range(MAX_DEPTH + 1):
        level = [
            value
            for one in level
            if isinstance(one, (dict, list))
            for value in (one.values() if isinstance(one, dict) else one)
        ]
        if not level:
            return
    raise ValueError(TOO_DEEP)


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{text if len(text) < 20 else text[:16] + '...'} is too large for a number")
    return value
