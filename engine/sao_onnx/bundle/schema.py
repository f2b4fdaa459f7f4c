"""JSON objects to frozen dataclasses, strictly: a value that does not fit is an error.

The manifest of a bundle and the configuration of a checkpoint are read with this module. A dataclass states the fields, their
types and the supported values (`Literal`). A field that it does not name is an error, so that no option is ignored silently.
A dataclass with a true class attribute `SKIPS_UNKNOWN` is an exception: its unknown fields are skipped, and reported to the
caller.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar, Union

T = TypeVar("T")


class SchemaError(ValueError):
    """A value does not fit its dataclass.

    Attributes:
        field: Dotted path of the field, for example `model.diffusion.diffusion_objective`.
        problem: What was found and what was expected.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


def read(cls: type[T], data: object, field: str = "", skipped: list[str] | None = None) -> T:
    """Make a dataclass from a decoded JSON object.

    Supported field types: bool, int, float (whole numbers are accepted; NaN and infinities are not), str, None, `Any`,
    `Literal`, unions, `tuple[X, ...]`, `dict[str, X]`, and other dataclasses. In a union of dataclasses, their `Literal` field
    `type` says which one is meant.

    Args:
        cls: The dataclass.
        data: The decoded JSON value.
        field: Dotted path of `data`, for errors.
        skipped: A list to which the dotted paths of skipped fields are added. Without it no unknown field is skipped.

    Returns:
        An instance of `cls`.

    Raises:
        SchemaError: A field is missing, unknown, of another type, or has an unsupported value.
    """
    if not isinstance(data, Mapping):
        raise SchemaError(field or "(top level)", f"found {shown(data)}, expected an object")
    hints: dict[str, Any] = _hints(cls)  # type: ignore[arg-type]  # Types are hashable, whatever their metaclass.
    known = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for name in data:
        if name in known:
            continue
        if skipped is not None and getattr(cls, "SKIPS_UNKNOWN", False):
            skipped.append(_join(field, str(name)))
        else:
            raise SchemaError(_join(field, str(name)), f"unknown field (found {shown(data[name])}); known: {', '.join(known)}")
    values: dict[str, Any] = {}
    for name, spec in known.items():
        if name in data:
            values[name] = _value(hints[name], data[name], _join(field, name), skipped)
        elif spec.default is dataclasses.MISSING and spec.default_factory is dataclasses.MISSING:
            raise SchemaError(_join(field, name), f"missing; expected {_named(hints[name])}")
    return cls(**values)


@functools.cache
def _hints(cls: Any) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _value(hint: Any, data: object, field: str, skipped: list[str] | None) -> Any:
    if dataclasses.is_dataclass(hint):
        return read(hint, data, field, skipped)  # type: ignore[arg-type]
    reader = _READERS.get(typing.get_origin(hint) or hint)
    if reader is not None:
        return reader(hint, data, field, skipped)
    if hint is Any or type(data) is hint:
        return data
    raise _misfit(hint, data, field)


def _misfit(hint: Any, data: object, field: str) -> SchemaError:
    return SchemaError(field, f"found {shown(data)}, expected {_named(hint)}")


def _literal(hint: Any, data: object, field: str, skipped: list[str] | None) -> Any:
    # `True == 1` in Python, but in a file true is no number.
    if any(data == choice and type(data) is type(choice) for choice in typing.get_args(hint)):
        return data
    raise _misfit(hint, data, field)


def _tuple(hint: Any, data: object, field: str, skipped: list[str] | None) -> tuple[Any, ...]:
    if not isinstance(data, (list, tuple)):
        raise _misfit(hint, data, field)
    item_hint = typing.get_args(hint)[0]
    return tuple(_value(item_hint, item, f"{field}[{i}]", skipped) for i, item in enumerate(data))


def _dict(hint: Any, data: object, field: str, skipped: list[str] | None) -> dict[str, Any]:
    if not isinstance(data, Mapping):
        raise _misfit(hint, data, field)
    item_hint = typing.get_args(hint)[1]
    return {str(key): _value(item_hint, item, _join(field, str(key)), skipped) for key, item in data.items()}


def _float(hint: Any, data: object, field: str, skipped: list[str] | None) -> float:
    if isinstance(data, (int, float)) and not isinstance(data, bool) and _finite(data):
        return float(data)
    raise _misfit(hint, data, field)


def _finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # A whole number beyond the range of floating point.
        return False


def _union(hint: Any, data: object, field: str, skipped: list[str] | None) -> Any:
    choices = typing.get_args(hint)
    variants = [choice for choice in choices if dataclasses.is_dataclass(choice)]
    if len(variants) > 1 and isinstance(data, Mapping):
        tags = {tag: variant for variant in variants for tag in typing.get_args(_hints(variant)["type"])}  # type: ignore[arg-type]
        if not isinstance(data.get("type"), str) or data["type"] not in tags:
            raise SchemaError(_join(field, "type"), f"found {shown(data.get('type'))}, supported: {', '.join(map(repr, tags))}")
        return read(tags[data["type"]], data, field, skipped)  # type: ignore[arg-type]
    if data is None and type(None) in choices:
        return None
    present = tuple(choice for choice in choices if choice is not type(None))
    if len(present) == 1:
        return _value(present[0], data, field, skipped)
    for choice in present:
        try:
            return _value(choice, data, field, skipped)
        except SchemaError:
            continue
    raise _misfit(hint, data, field)


_READERS: dict[Any, Callable[[Any, object, str, list[str] | None], Any]] = {
    Literal: _literal,
    tuple: _tuple,
    dict: _dict,
    float: _float,
    Union: _union,
    types.UnionType: _union,
}
"""Functions that read a value of a type, by the type, or by its origin if it has parameters."""


def _named(hint: Any) -> str:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return "one of " + ", ".join(map(repr, args)) if len(args) > 1 else repr(args[0])
    if origin in (Union, types.UnionType):
        return " or ".join(map(_named, args))
    if origin is tuple:
        return f"a list of {_named(args[0])}"
    if origin is dict or dataclasses.is_dataclass(hint):
        return "an object"
    names = {int: "a whole number", float: "a finite number", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(hint, str(hint))


def shown(data: object) -> str:
    """A value in a message: one line of at most 80 characters."""
    try:
        text = repr(data)
    except (RecursionError, ValueError):  # Nested too deep, or a whole number of thousands of digits.
        return f"a value of type {type(data).__name__} that is too long to show"
    return text if len(text) <= 80 else text[:77] + "..."


def _join(field: str, name: str) -> str:
    if len(name) > 80 or not name.isprintable():
        name = shown(name)
    return f"{field}.{name}" if field else name
