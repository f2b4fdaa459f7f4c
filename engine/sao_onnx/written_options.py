"""The options of a request from values as people write them: on the command line, and in the lines of a list."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from sao_onnx.errors import RequestError
from sao_onnx.option import Kind, Spelling, shown, unknown_option
from sao_onnx.request import kinds


def read_options(written: Mapping[str, Any], *, from_json: bool = False) -> dict[str, Any]:
    """Options of a request from values as they were written, on the command line or in a list.

    Args:
        written: Values as numbers, flags or text by the name of the option, one of its aliases or one of its other spellings,
            with underscores or hyphens. None, empty text and empty lists count as not given.
        from_json: They come from JSON, where the number 8 is not the text "8".

    Raises:
        RequestError: A name is unknown, an option is given twice, or a value cannot be read.
    """
    readers = _readers()
    options: dict[str, Any] = {}
    for name, value in written.items():
        if value is None or (isinstance(value, (str, list)) and not value):
            continue
        reader = readers.get(name.replace("-", "_"))
        if reader is None:
            raise unknown_option(name, readers)
        try:
            read = reader(value, from_json)
        except (ValueError, TypeError) as error:
            raise RequestError(f"{name} is {shown(value)}; {error}") from error
        if twice := options.keys() & read.keys():
            raise RequestError(f"{min(twice)} is given twice, the second time as {name}; give it once")
        options |= read
    return options


@functools.cache
def _readers() -> dict[str, Callable[[Any, bool], dict[str, Any]]]:
    """How to read each name, with underscores: from a value, and whether it comes from JSON."""
    found: dict[str, Callable[[Any, bool], dict[str, Any]]] = {}
    for name, kind in kinds().items():
        if not kind.option.on_command_line:
            continue
        for alias in (name, *kind.option.aliases):
            found[alias.replace("-", "_")] = functools.partial(_read, name, kind)
        for spelling in kind.option.spellings:
            found[spelling.name.replace("-", "_")] = _spelled(spelling)
    return found


def _read(name: str, kind: Kind, value: Any, from_json: bool) -> dict[str, Any]:
    return {name: kind.read_json(value) if from_json else kind.read(value)}


def _spelled(spelling: Spelling) -> Callable[[Any, bool], dict[str, Any]]:
    return lambda value, _: spelling.read(value)
