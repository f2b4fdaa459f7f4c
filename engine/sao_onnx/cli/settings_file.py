"""The user's file of settings: where it is, and what is written in it. What its keys mean is in `settings`."""

from __future__ import annotations

import os
import re
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, time
from pathlib import Path
from typing import Any

from sao_onnx.option import LONGEST_SHOWN, shown

VARIABLE = "SAO_ONNX_CONFIG"
"""Names another file; the system's null device (`/dev/null`, `NUL`) stands for none."""

NAME = "config.toml"

LARGEST = 1_000_000
"""Bytes of the file."""


@dataclass(frozen=True)
class Entry:
    """A line of the file.

    Attributes:
        table: The command whose table it is in; "" before the first table.
        key: As it is written; "" for the heading of the table.
        value: Of TOML.
        place: The file and the line, for people.
    """

    table: str
    key: str
    value: Any
    place: str


def settings_path() -> Path | None:
    """The file, which need not exist unless the variable names it; None where there can be none.

    There is none for a user without a home folder.
    """
    from sao_onnx.errors import FileError
    from sao_onnx.places import expand_home, user_path

    if named := os.environ.get(VARIABLE, "").strip():
        return None if named == os.devnull else expand_home(named)
    try:
        return user_path("config") / NAME
    except FileError:
        return None


def read_entries(inline: Container[str] = ()) -> list[Entry]:
    """All that the file says; nothing where it is not there.

    Args:
        inline: Keys whose values are tables themselves. Every other table is that of a command.

    Raises:
        FileError: It cannot be read, or is no file of a reasonable size.
        RequestError: It is no TOML in UTF-8, or `SAO_ONNX_CONFIG` names a file that is not there.
    """
    from sao_onnx.errors import RequestError
    from sao_onnx.reading import read_small

    path = settings_path()
    if path is None:
        return []
    try:
        data = read_small(path, LARGEST)
    except FileNotFoundError:
        if os.environ.get(VARIABLE, "").strip():
            remedy = f"unset it, or make the file with: sao-onnx config --init (it goes where {VARIABLE} says)"
            raise RequestError(f"{VARIABLE} names {path}, which is not there; {remedy}") from None
        return []
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        found = f"{path} is no UTF-8 text: byte {data[error.start]:#04x} at {error.start}"
        raise RequestError(f"{found}; save it as UTF-8") from None
    return list(_entries(path, text, _parsed(path, text), inline))


def _parsed(path: Path, text: str) -> Mapping[str, Any]:
    import tomllib

    from sao_onnx.errors import RequestError

    try:
        return tomllib.loads(text)
    except RecursionError:
        raise RequestError(f"{path} is no file of settings: it is nested too deeply") from None
    except ValueError as error:  # TOML's own is one; a number of thousands of digits is another.
        raise RequestError(_mistake(path, text, str(error))) from None


def _mistake(path: Path, text: str, problem: str) -> str:
    """What is wrong with a file that is no TOML, and how to mend the usual mistakes.

    Args:
        path: The file.
        text: In it.
        problem: What Python's reader says. Its words may change, and then the remedy is the general one.
    """
    found = re.search(r"\(at line (\d+)", problem)
    place, line = (f"{path}, line {found[1]}", text.splitlines()[int(found[1]) - 1].strip()) if found else (str(path), "")
    if "twice" in problem and line.startswith("["):
        return f"{place}: the table {line} is there twice; put its lines under one of them"
    if "overwrite" in problem:
        return f"{place}: {line.partition('=')[0].strip()} is there twice; leave one of the two out"
    remedy = 'text stands in quotes, as in: sampler = "euler"'
    if "after a key" in problem:
        remedy = "a key and its value are joined by an equals sign, as in: steps = 4"
    elif small := re.search(r"=\s*(True|False)\b", line):
        remedy = f"write {small[1].lower()}, in small letters"
    return f"{path} is no TOML: {problem}; {remedy}"


def shown_as_toml(value: Any) -> str:
    """A value as the file has it, short whatever it is."""
    match value:
        case bool():
            text = "true" if value else "false"
        case date() | time():
            text = value.isoformat()
        case list():
            text = f"[{', '.join(map(shown_as_toml, value))}]"
        case dict():
            text = f"{{{', '.join(f'{key} = {shown_as_toml(inner)}' for key, inner in value.items())}}}"
        case _:
            return shown(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 3]}..."


def _entries(path: Path, text: str, data: Mapping[str, Any], inline: Container[str]) -> Iterator[Entry]:
    for key, value in data.items():
        if isinstance(value, dict) and key not in inline:
            # The table itself comes first, because it may be empty, and of a command that there is not.
            for inner, found in {"": None, **value}.items():
                yield Entry(key, inner, found, _place(path, text, key, inner))
        else:
            yield Entry("", key, value, _place(path, text, "", key))


def _place(path: Path, text: str, table: str, key: str) -> str:
    """The file, and the line of a key in it: the first that begins with it in its table. Close enough for people."""
    inside = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if heading := re.match(r"\s*\[+\s*[\"']?([^\]\"'.]+?)[\"']?\s*(?:\.\s*[\"']?([^\]\"'.]+?)[\"']?\s*)?[\].]", line):
            inside = heading[1]
            if (inside, heading[2] or "") == (table, key) or (not table and inside == key):
                return f"{path}, line {number}"
        # A key may be in quotes, and a table may be written as `gen.steps`.
        written = re.match(r"\s*(?:[\"']?([\w-]+)[\"']?\s*\.\s*)?[\"']?([^\"'=.\s]+)[\"']?\s*[=.]", line)
        if written and (written[1] or inside, written[2]) == (table, key):
            return f"{path}, line {number}"
    return f"{path}, [{table}]" if table else f"{path}"
