"""What an option is: its type, its range, and how it is written by people."""

from __future__ import annotations

import contextlib
import difflib
import math
import numbers
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sao_onnx.errors import RequestError

LONGEST_SHOWN = 60
"""Characters of a value in an error message."""

Region = tuple[float, float]
"""From and to, in seconds."""


@dataclass(frozen=True)
class Spelling:
    """Another way to write an option on the command line and in lists of requests, with other values.

    Attributes:
        name: In words joined by hyphens, for example "strength".
        help: One line.
        read: The options that a value stands for, by their names. Raises ValueError with what was expected.
        shown_default: What the help gives as the default.
    """

    name: str
    help: str
    read: Callable[[Any], dict[str, Any]]
    shown_default: str = ""


@dataclass(frozen=True)
class Option:
    """What is known of an option besides its type and default.

    Attributes:
        help: One line.
        unit: Of a number, for people.
        minimum: The least value.
        maximum: The largest value.
        above: `minimum` itself is out of range.
        shown_default: What None stands for, for people.
        aliases: Other names on the command line and in lists, with the same values.
        spellings: Other names with other values.
        on_command_line: Whether the command line and lists of requests have it.
        in_tags: Whether the tags of an audio file record it.
    """

    help: str
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    above: bool = False
    shown_default: str = ""
    aliases: tuple[str, ...] = ()
    spellings: tuple[Spelling, ...] = ()
    on_command_line: bool = True
    in_tags: bool = True

    @property
    def range(self) -> str:
        """The range in words, "" where there is none."""
        least = "" if self.minimum is None else f"{self.minimum:.15g}"
        most = "" if self.maximum is None else f"{self.maximum:.15g}"
        if self.above:
            return f"more than {least}" + (f" and at most {most}" if most else "")
        if least and most:
            return f"{least} to {most}"
        return f"at least {least}" if least else f"at most {most}" if most else ""


@dataclass(frozen=True)
class Kind:
    """The type of an option.

    Attributes:
        name: "number", "whole number", "text", "choice", "flag", "regions", "numbers", "audio" or "latents".
        default: Its value where none is given.
        choices: Of a choice.
        option: Its range, for numbers.
    """

    name: str
    default: Any
    choices: tuple[str, ...]
    option: Option

    @property
    def optional(self) -> bool:
        """None is a value, which leaves the option to the model."""
        return self.default is None

    @property
    def shown_default(self) -> str:
        """The default, for people; "" where there is nothing to say."""
        if self.optional or isinstance(self.default, bool):
            return self.option.shown_default
        return f"{self.default:g}" if isinstance(self.default, float) else str(self.default)

    def checked(self, name: str, value: Any) -> Any:
        """A value of Python as the request keeps it.

        Raises:
            RequestError: It is of another type, or outside the range.
        """
        match self.name:
            case "number":
                return self._in_range(name, finite_number(name, value))
            case "whole number":
                return self._in_range(name, whole_number(name, value))
            case "flag" if not isinstance(value, bool):
                raise RequestError(f"{name} is {shown(value)}, expected True or False")
            case "text":
                return text(name, value)
            case "choice" if not isinstance(value, str) or value not in self.choices:
                raise RequestError(f"{name} is {shown(value)}, expected {' or '.join(self.choices)}")
            case "regions":
                return regions(name, value)
            case "numbers":
                if not isinstance(value, Mapping):
                    raise RequestError(f"{name} is {shown(value)}, expected numbers by the name of their conditioner")
                return {str(key): finite_number(str(key), number) for key, number in value.items()}
        return value

    def _in_range(self, name: str, value: float) -> float:
        low, high = self.option.minimum, self.option.maximum
        too_low = low is not None and (value <= low if self.option.above else value < low)
        if too_low or (high is not None and value > high):
            expected = f"{self.option.range} {self.option.unit}".rstrip()
            raise RequestError(f"{name} is {shown(value)}, expected {expected}")
        return value

    def read(self, text: Any) -> Any:
        """A value as it was written, on the command line or in a list, where it can also be a number or a flag already.

        Raises:
            ValueError: It is no value of this kind. The message says what was expected.
        """
        match self.name:
            case "number":
                return read_number(text)
            case "whole number":
                # What is a number already is checked with the request, which does not cut 2.5 down to 2.
                return _read(int, text, "a whole number") if isinstance(text, str) else text
            case "flag":
                return _flag(text)
            case "regions":
                return _read_regions(text)
            case "numbers":
                return _read_numbers(text)
            case _:
                return str(text)


def unknown_option(name: str, names: Iterable[str]) -> RequestError:
    """The error for a name that no option has; it suggests the nearest one."""
    names = list(names)
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    remedy = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}"
    return RequestError(f"there is no option {name!r}; {remedy}")


def finite_number(name: str, value: Any) -> float:
    """A finite number as Python's.

    Raises:
        RequestError: It is none; it is named.
    """
    number = float("nan")
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):  # An integer of hundreds of digits.
            number = float(value)
    if not math.isfinite(number):
        raise RequestError(f"{name} is {shown(value)}, expected a finite number")
    return number


def whole_number(name: str, value: Any) -> int:
    """A whole number as Python's.

    Raises:
        RequestError: It is none; it is named.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise RequestError(f"{name} is {shown(value)}, expected a whole number")
    return int(value)


def text(name: str, value: Any) -> str:
    """Text that can be encoded.

    Raises:
        RequestError: It is none; it is named.
    """
    if not isinstance(value, str):
        raise RequestError(f"{name} is {shown(value)}, expected text")
    try:
        value.encode()
    except UnicodeEncodeError:  # Bytes of a command line or a file that were no text there.
        raise RequestError(f"{name} is {shown(ascii(value))}, expected text in Unicode; it holds a lone surrogate") from None
    return value


def regions(name: str, value: Any) -> tuple[Region, ...]:
    """Regions as pairs of numbers; whether they lie in the clip is found when it is planned.

    Raises:
        RequestError: One is no pair of finite numbers, begins below 0, or does not end after its start.
    """
    try:
        edges = [(start, end) for start, end in value]
    except (TypeError, ValueError):
        raise RequestError(f"{name} is {shown(value)}, expected pairs of numbers, from and to in seconds") from None
    what = f"the edge of a region of {name}"
    pairs = [(finite_number(what, start), finite_number(what, end)) for start, end in edges]
    for start, end in pairs:
        if not 0 <= start < end:
            raise RequestError(f"{name} has the region {start:g} to {end:g} s, expected 0 or more, and the end after the start")
    return tuple(pairs)


def shown(value: Any) -> str:
    """A value in an error message, short whatever it is."""
    try:
        text = f"{value:.15g}" if isinstance(value, float) else repr(value)
    except ValueError:  # Python prints no integer of more than 4,300 digits.
        return "a number of thousands of digits"
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 3]}..."


def _read(parse: Callable[[Any], Any], text: Any, expected: str) -> Any:
    try:
        return parse(text)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"expected {expected}") from None


def read_number(text: Any) -> float:
    """A number as it was written. Raises ValueError where it is none."""
    if isinstance(text, bool):
        raise ValueError("expected a number")
    return float(_read(float, text, "a number"))


def _flag(text: Any) -> bool:
    truth = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}.get(str(text).lower())
    if truth is None:
        raise ValueError("expected true or false")
    return truth


def _read_regions(text: Any) -> list[tuple[float, ...]]:
    try:
        parts = text.replace(",", " ").split() if isinstance(text, str) else list(text)
        found = [tuple(float(edge) for edge in (str(part).split(":") if isinstance(part, str) else part)) for part in parts]
    except (TypeError, ValueError, OverflowError):
        found = [()]
    if not all(len(region) == 2 for region in found):
        raise ValueError("expected FROM:TO in seconds, such as 3:8.5")
    return found


def _read_numbers(text: Any) -> dict[str, float]:
    if isinstance(text, Mapping):
        return {str(name): read_number(value) for name, value in text.items()}
    parts = text.replace(",", " ").split() if isinstance(text, str) else text
    if not isinstance(parts, list) or not all("=" in str(part)[1:] for part in parts):
        raise ValueError("expected NAME=VALUE, such as seconds_total=4")
    return {name: read_number(value) for name, _, value in (str(part).partition("=") for part in parts)}
