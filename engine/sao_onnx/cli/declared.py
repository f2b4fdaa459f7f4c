"""The options of all commands, as data: read from the functions that declare them, so that no list of them is kept beside."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from typer.models import ArgumentInfo, OptionInfo

from sao_onnx.option import Kind

Type = Literal["flag", "whole number", "number", "text", "path"]

_TYPES: dict[Any, Type] = {bool: "flag", int: "whole number", float: "number", str: "text", Path: "path"}

COMMANDS: dict[str, Callable[..., None]] = {}
"""Every command by its name, in the order in which they were made (`terminal.command`)."""


@dataclass(frozen=True)
class Declared:
    """An option or an argument of a command.

    Attributes:
        name: Of the parameter.
        flags: As it is typed: `--cfg-scale` and `--cfg`; none for an argument.
        off: As the opposite of a flag is typed: `--no-metadata`.
        type: Of its value.
        several: It may be repeated.
        required: It has to be given.
        default: Where it is not given.
        info: What else typer is told of it: help, range, heading, variable of the environment.
        kind: Of the option of a request that it is, or is another spelling of; None for the command's own.
    """

    name: str
    flags: tuple[str, ...]
    off: tuple[str, ...]
    type: Type
    several: bool
    required: bool
    default: Any
    info: Any
    kind: Kind | None

    @property
    def keys(self) -> tuple[str, ...]:
        """Its names in a file of settings: its long flags, with underscores."""
        return tuple(key_of(flag) for flag in self.flags if flag.startswith("--"))

    @property
    def range(self) -> str:
        """The range of a number that is no option of a request, in words; "" where there is none."""
        low, high = getattr(self.info, "min", None), getattr(self.info, "max", None)
        if low is not None and high is not None:
            return f"{low:g} to {high:g}"
        return f"at least {low:g}" if low is not None else f"at most {high:g}" if high is not None else ""

    @property
    def choices(self) -> tuple[str, ...]:
        """Its values, where they are a few words that help names."""
        metavar = self.info.metavar or ""
        # Not where a word stands for many values, as HOST does.
        return tuple(metavar.split("|")) if re.fullmatch(r"[a-z0-9.]+(\|[a-z0-9.]+)+", metavar) else ()


def key_of(flag: str) -> str:
    """The key of a flag in a file of settings: `cfg_scale` of `--cfg-scale`."""
    return flag.removeprefix("--").replace("-", "_")


@functools.cache
def declared(command: Callable[..., None]) -> tuple[Declared, ...]:
    """The arguments and options of a command."""
    found = []
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        if get_origin(parameter.annotation) is not Annotated:
            continue  # The context.
        base, *about = get_args(parameter.annotation)
        info = next(info for info in about if isinstance(info, (ArgumentInfo, OptionInfo)))
        several, type = _type(base)
        flags: tuple[str, ...] = ()
        off: tuple[str, ...] = ()
        if isinstance(info, OptionInfo):
            # Within `Annotated`, typer takes the first flag for a default.
            written = [str(flag) for flag in (info.default, *(info.param_decls or ())) if str(flag).startswith("-")]
            written = written or [f"--{parameter.name.replace('_', '-')}"]
            flags = tuple(flag.partition("/")[0] for flag in written)
            off = tuple(other for flag in written if (other := flag.partition("/")[2]))
        required = parameter.default is parameter.empty
        default = None if required else parameter.default
        kind = next((known for known in about if isinstance(known, Kind)), None)
        found.append(Declared(parameter.name, flags, off, type, several, required, default, info, kind))
    return tuple(found)


def _type(base: Any) -> tuple[bool, Type]:
    """Whether an annotation is of several values, and the type of each."""
    options = [option for option in get_args(base) if option is not type(None)] if type(None) in get_args(base) else [base]
    several = get_origin(options[0]) is list
    one = get_args(options[0])[0] if several else options[0]
    return several, _TYPES[one]
