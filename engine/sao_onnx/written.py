"""Values of options as people write them: on the command line and in lists of requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

_JSON_TYPES: dict[str, tuple[type | tuple[type, ...], str]] = {
    "number": ((int, float), "a number, without quotes"),
    "whole number": ((int, float), "a whole number, without quotes"),
    "flag": (bool, "true or false, without quotes"),
    "text": (str, "text, in quotes"),
    "choice": (str, "text, in quotes"),
    "audio": (str, "the path of a file, in quotes"),
}
"""What a kind of option is in JSON."""


def read(kind: str, written: Any) -> Any:
    """A value as it was written; it can also be a number or a flag already.

    Args:
        kind: Of the option, as `option.Kind` names it.
        written: On the command line or in a list.

    Raises:
        ValueError: It is no value of this kind. The message says what was expected.
    """
    match kind:
        case "number":
            return read_number(written)
        case "whole number":
            # What is a number already is checked with the request, which does not cut 2.5 down to 2.
            return _read(int, written, "a whole number") if isinstance(written, str) else written
        case "flag":
            return _flag(written)
        case "regions":
            return _regions(written)
        case "numbers":
            return _numbers(written)
    return str(written)


def read_json(kind: str, value: Any) -> Any:
    """A value of JSON, which tells numbers from text: 8 is one, and "8" is none.

    Regions and numbers by name can be text as a whole, as on the command line, but the numbers in a list cannot.

    Raises:
        ValueError: As for `read`.
    """
    types, expected = _JSON_TYPES.get(kind, (object, ""))
    if not isinstance(value, types):
        raise ValueError(f"expected {expected}")
    inside = list(value.values()) if isinstance(value, Mapping) else []
    if isinstance(value, list):
        inside = [edge for part in value if isinstance(part, list) for edge in part]
    if any(isinstance(number, str) for number in inside):
        raise ValueError("expected numbers, without quotes")
    return read(kind, value)


def read_number(written: Any) -> float:
    """A number as it was written. Raises ValueError where it is none."""
    if isinstance(written, bool):
        raise ValueError("expected a number")
    return float(_read(float, written, "a number"))


def _read(parse: Callable[[Any], Any], written: Any, expected: str) -> Any:
    try:
        return parse(written)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"expected {expected}") from None


def _flag(written: Any) -> bool:
    truth = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}.get(str(written).lower())
    if truth is None:
        raise ValueError("expected true or false")
    return truth


def _regions(written: Any) -> list[tuple[float, ...]]:
    try:
        parts = written.replace(",", " ").split() if isinstance(written, str) else list(written)
        found = [tuple(read_number(edge) for edge in (part.split(":") if isinstance(part, str) else part)) for part in parts]
    except (TypeError, ValueError):
        found = [()]
    if not all(len(region) == 2 for region in found):
        raise ValueError("expected FROM:TO in seconds, such as 3:8.5")
    return found


def _numbers(written: Any) -> dict[str, float]:
    if isinstance(written, Mapping):
        return {str(name): read_number(value) for name, value in written.items()}
    parts = written.replace(",", " ").split() if isinstance(written, str) else written
    if not isinstance(parts, list) or not all("=" in str(part)[1:] for part in parts):
        raise ValueError("expected NAME=VALUE, such as seconds_total=4")
    pairs = [(name, _number_of(name, value)) for name, _, value in (str(part).partition("=") for part in parts)]
    if len(pairs) != len(dict(pairs)):
        raise ValueError("expected each name once")
    return dict(pairs)


def _number_of(name: str, written: str) -> float:
    try:
        return read_number(written)
    except ValueError:
        raise ValueError(f"expected a number behind {name}=") from None
