"""What an option is: its type, its range, and how it is written by people."""

from __future__ import annotations

import contextlib
import math
import numbers
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sao_onnx.errors import RequestError
from sao_onnx.suggest import one_of, suggestion
from sao_onnx.written import read, read_json

MAX_TEXT = 100_000
"""Characters of a text. Models read a few hundred, and the tags of every audio file have room for this many."""

MAX_REGIONS = 1000

LONGEST_SHOWN = 60
"""Characters of a value in an error message."""

Region = tuple[float, float]
"""From and to, in seconds."""

SOUND, RECORDING, LOOPS, LEVEL = "The sound", "From a recording", "Loops", "Level and ends"
"""Headings of help."""

TOLERANCE = 0.005
"""Seconds by which a length may exceed its limit: half of the last digit of limits that are printed with two or three."""


@dataclass(frozen=True)
class Spelling:
    """Another way to write an option on the command line and in lists of requests, with other values.

    Attributes:
        name: In words joined by hyphens, for example "strength".
        help: One line.
        read: The options that a value stands for, by their names. Raises ValueError with what was expected.
        shown_default: What the help gives as the default.
        metavar: What help shows in place of a value.
    """

    name: str
    help: str
    read: Callable[[Any], dict[str, Any]]
    shown_default: str = ""
    metavar: str = "NUMBER"


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
        task: Heading under which help lists it: `SOUND`, `RECORDING`, `LOOPS` or `LEVEL`.
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
    task: str = ""

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
        value = plain(value)
        match self.name:
            case "number":
                return self._in_range(name, finite_number(name, value))
            case "whole number":
                return self._in_range(name, whole_number(name, value))
            case "flag" if not isinstance(value, bool):
                raise RequestError(f"{name} is {shown(value)}, expected True or False")
            case "text":
                return text(name, value)
            case "choice":
                if not isinstance(value, str) or value not in self.choices:
                    raise RequestError(f"{name} is {shown(value)}, expected {one_of(value, self.choices)}")
                value = str.__str__(value)
            case "regions":
                return regions(name, value)
            case "numbers":
                if not isinstance(value, Mapping):
                    raise RequestError(f"{name} is {shown(value)}, expected numbers by the name of their conditioner")
                return {str(key): finite_number(shown(str(key))[1:-1], number) for key, number in value.items()}
        return value

    def _in_range(self, name: str, value: float) -> float:
        low, high = self.option.minimum, self.option.maximum
        too_low = low is not None and (value <= low if self.option.above else value < low)
        if too_low or (high is not None and value > high):
            expected = f"{self.option.range} {self.option.unit}".rstrip()
            raise RequestError(f"{name} is {shown(value)}, expected {expected}")
        return value

    def read(self, written: Any) -> Any:
        """A value as it was written, on the command line or in a list, where it can also be a number or a flag already.

        Raises:
            ValueError: It is no value of this kind. The message says what was expected.
        """
        return read(self.name, written)

    def read_json(self, value: Any) -> Any:
        """A value of JSON, where the number 8 is not the text "8".

        Raises:
            ValueError: As for `read`.
        """
        return read_json(self.name, value)


def unknown_option(name: str, names: Iterable[str]) -> RequestError:
    """The error for a name that no option has; it suggests the nearest one."""
    names = list(names)
    near = suggestion(name, names)
    remedy = f"did you mean {near!r}?" if near else f"known: {', '.join(names)}"
    return RequestError(f"there is no option {name!r}; {remedy}")


def plain(value: Any) -> Any:
    """NumPy's scalars, and arrays of no dimension, as Python's own; other values as they are."""
    return value.item() if getattr(value, "shape", None) == () and hasattr(value, "item") else value


def text(name: str, value: Any) -> str:
    """Text that can be tokenized and written into a file.

    Raises:
        RequestError: It is no text, too long, or holds what no file can; it is named.
    """
    value = plain(value)
    if not isinstance(value, str):
        raise RequestError(f"{name} is {shown(value)}, expected text")
    if len(value) > MAX_TEXT:
        raise RequestError(f"{name} has {len(value):,} characters, expected at most {MAX_TEXT:,}")
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        found = f"{name} is {shown(value)}, which holds a zero or half a character (a lone surrogate)"
        raise RequestError(f"{found}; expected text that can be written into a file")
    return str.__str__(value)


def finite_number(name: str, value: Any) -> float:
    """A finite number as Python's.

    Raises:
        RequestError: It is none; it is named.
    """
    number, value = float("nan"), plain(value)
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
    value = plain(value)
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        found = repr(value) if isinstance(value, float) else shown(value)  # 1.0 is no 1.
        raise RequestError(f"{name} is {found}, expected a whole number")
    return int(value)


def regions(name: str, value: Any) -> tuple[Region, ...]:
    """Regions as pairs of numbers; whether they lie in the clip is found when it is planned.

    Raises:
        RequestError: One is no pair of finite numbers, begins below 0, or does not end after its start.
    """
    try:
        edges = [(start, end) for start, end in value]
    except (TypeError, ValueError):
        raise RequestError(f"{name} is {shown(value)}, expected pairs of numbers, from and to in seconds") from None
    if len(edges) > MAX_REGIONS:
        raise RequestError(f"{name} has {len(edges)} regions, expected at most {MAX_REGIONS}")
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
    if "\n" in text:  # An array.
        text = " ".join(text.split())
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 3]}..."
