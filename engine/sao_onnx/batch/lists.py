"""Lists of requests in text, CSV or JSON Lines, one a line. Whatever is wrong with a line is that line's."""

from __future__ import annotations

import csv
import io
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TextIO

from sao_onnx.errors import FileError, RequestError
from sao_onnx.reading import parse_json, read_small

ListFormat = Literal["text", "csv", "jsonl"]

FORMAT_BY_SUFFIX: dict[str, ListFormat] = {".txt": "text", ".csv": "csv", ".jsonl": "jsonl"}
OTHER_LISTS = (".json", ".tsv", ".xls", ".xlsx", ".ods", ".yaml", ".yml")
"""Suffixes of lists that would make prompts of their syntax, if they were read as text."""

STDIN = "-"

LONGEST_LINE = 1_000_000
"""Characters of a line."""

ENDLESS_LINE = 100
"""Times the longest line: what has no end by then is no list."""

LARGEST_LIST = 16_000_000
"""Bytes of a file, all of whose requests are kept until they are made. One that is piped in can be as long as it likes."""


@dataclass(frozen=True)
class Line:
    """A request as it is written in a list.

    Attributes:
        number: Of its line in the file, from 1; of the first one, where a value of CSV holds line ends.
        index: Of the request in the list, from 1. Empty lines and comments do not count, lines that cannot be read do.
        prompt: Text.
        options: Options by name; values as numbers or text, not yet checked.
        problem: Why the line cannot be used, or "".
        from_json: The values are JSON's, where the number 8 is not the text "8".
    """

    number: int
    index: int
    prompt: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    problem: str = ""
    from_json: bool = False


def open_list(file: str, format: ListFormat) -> tuple[Iterator[Line], bool]:
    """Open a list of requests.

    Args:
        file: A file or a FIFO, or "-" for stdin.
        format: How it is written.

    Returns:
        The requests as `read_lines` yields them, and whether others may still be coming: from stdin or a FIFO.

    Raises:
        FileError: The file cannot be read, is too large, or is a device.
    """
    # A file of its own, not `sys.stdin`, which Python would wait for at the end of the process.
    how: dict[str, Any] = {"encoding": "utf-8-sig", "errors": "surrogateescape", "newline": "\n" if format == "jsonl" else ""}
    if file == STDIN:
        if sys.stdin is None:
            raise FileError("stdin is closed; name a file, or pipe the requests in")
        return read_lines(open(sys.stdin.fileno(), closefd=False, **how), format), True
    path = Path(file)
    try:
        if stat.S_ISFIFO(path.stat().st_mode):
            return read_lines(path.open(**how), format), True
        data = read_small(path, LARGEST_LIST)
    except FileError as error:
        raise FileError(f"{error}; a longer list can be piped in: sao-onnx batch - < LIST") from error
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path.
        raise FileError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    return read_lines(io.TextIOWrapper(io.BytesIO(data), **how), format), False


def read_lines(stream: TextIO, format: ListFormat) -> Iterator[Line]:
    """The requests of a list in order, each as soon as it is there. One that cannot be read comes with its problem.

    Empty lines are left out; in text, lines that begin with `#` too. CSV begins with the names of its columns, and one of them
    must be `prompt`. JSON Lines are objects with `prompt`.

    Args:
        stream: Opened so that it splits lines where its format does: JSON Lines at line feeds only. What is not UTF-8 is read
            as surrogates (`errors="surrogateescape"`).
        format: How it is written.

    Raises:
        RequestError: CSV without a column `prompt` or with one twice; or this is no text in UTF-8 with lines.
        FileError: The system cannot read on.
    """
    rows = {"text": _text, "csv": _csv, "jsonl": _objects}[format](_Lines(stream))
    for index, (number, prompt, options, problem) in enumerate(rows, start=1):
        yield Line(number, index, prompt, options, problem, from_json=format == "jsonl")


class _BadLineError(Exception):
    """A line that cannot be read; the next one may be."""


class _Lines:
    """The lines of a stream, each a string without its end. After a bad one it goes on with the next."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.number = 0
        self.ended = False

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        text = self._read(LONGEST_LINE + 2)
        if not text:
            self.ended = True
            raise StopIteration
        self.number += 1
        if self.number == 1 and text.startswith(("\udcff\udcfe", "\udcfe\udcff")):
            raise RequestError("the list is UTF-16 text, expected UTF-8; save it again as UTF-8")
        if len(text.rstrip("\r\n")) > LONGEST_LINE:
            self._skip(text)
            raise _BadLineError(f"the line is longer than {LONGEST_LINE:,} characters")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            found = ord(text[error.start]) - 0xDC00
            raise _BadLineError(f"it is not UTF-8 text: byte {found:#x} at character {error.start + 1}") from None
        return text

    def _read(self, most: int) -> str:
        try:
            return self._stream.readline(most)
        except OSError as error:
            raise FileError(f"the list cannot be read after line {self.number}: {error.strerror or error}") from error

    def _skip(self, text: str) -> None:
        """Leave the rest of a line out, of which this is the beginning."""
        for _ in range(ENDLESS_LINE):
            if not text or text.endswith(("\n", "\r")):
                return
            text = self._read(LONGEST_LINE)
        raise RequestError(f"line {self.number} has no end; expected a list of requests, one a line")


_Fields = tuple[int, str, dict[str, Any], str]
"""Number, prompt, options and problem of a line."""


def _rows(lines: _Lines) -> Iterator[tuple[int, str, str]]:
    """Number, text and problem of each line that is not empty."""
    while True:
        try:
            text = next(lines).strip()
        except StopIteration:
            return
        except _BadLineError as error:
            yield lines.number, "", str(error)
        else:
            if text:
                yield lines.number, text, ""


def _text(lines: _Lines) -> Iterator[_Fields]:
    for number, text, problem in _rows(lines):
        if not text.startswith("#"):
            yield number, text, {}, problem


def _objects(lines: _Lines) -> Iterator[_Fields]:
    for number, text, problem in _rows(lines):
        yield (number, "", {}, problem) if problem else (number, *_object(text))


def _object(text: str) -> tuple[str, dict[str, Any], str]:
    """Prompt, options and problem of a line of JSON."""
    try:
        data = parse_json(text)
    except ValueError as error:
        return "", {}, f"not JSON: {error}"
    if not isinstance(data, dict) or not isinstance(data.get("prompt"), str):
        return "", {}, 'expected an object with "prompt", a text'
    return data.pop("prompt"), data, ""


def _csv(lines: _Lines) -> Iterator[_Fields]:
    reader = csv.reader(lines, skipinitialspace=True)
    names: list[str] = []
    while True:
        number = lines.number + 1
        row: list[str] = []
        problem = ""
        try:
            row = next(reader)
        except StopIteration:
            break
        except (_BadLineError, csv.Error) as error:
            problem = _csv_problem(error)
        if names:
            if row or problem:
                yield (number, *_cells(names, row, problem or ("a quote is never closed" if lines.ended else "")))
        elif problem:
            raise RequestError(f"the columns cannot be read: {problem}")
        elif row:
            names = _columns(row)
    if not names:
        raise RequestError("the columns are missing; one of them must be prompt")


def _csv_problem(error: Exception) -> str:
    if "field limit" in str(error):
        return f"a value is longer than {csv.field_size_limit():,} characters; is a quote not closed?"
    return str(error)


def _columns(names: list[str]) -> list[str]:
    if "prompt" not in names:
        hint = "; separate them by commas" if len(names) == 1 and {";", "\t"} & set(names[0]) else ""
        raise RequestError(f"the columns are {', '.join(names)}; one of them must be prompt{hint}")
    for name in names:
        if name and names.count(name) > 1:
            raise RequestError(f"the column {name} is there twice; leave one of them out")
    return names


def _cells(names: list[str], row: list[str], problem: str) -> tuple[str, dict[str, Any], str]:
    """Prompt, options and problem of a row of CSV. Cells that are missing at its end count as empty."""
    if not problem and len(row) > len(names):
        problem = f"found more values than the {len(names)} columns"
    if problem:
        return "", {}, problem
    options: dict[str, Any] = dict(zip(names, row, strict=False))
    return options.pop("prompt", ""), options, ""
