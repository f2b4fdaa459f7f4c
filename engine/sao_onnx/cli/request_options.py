"""The options of a request on the command line: derived from the fields of `Request`, which declare them."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from sao_onnx.option import Kind
from sao_onnx.request import kinds

_TYPES: dict[str, Any] = {
    "number": float | None,
    "whole number": int | None,
    "text": str | None,
    "choice": str | None,
    "flag": bool | None,
    "regions": list[str] | None,
    "numbers": list[str] | None,
    "audio": Path | None,
}

_METAVARS = {
    "number": "NUMBER",
    "whole number": "NUMBER",
    "text": "TEXT",
    "regions": "FROM:TO",
    "numbers": "NAME=VALUE",
    "audio": "FILE",
}
"""What help shows in place of a value."""

LONGEST_PROMPT = 100_000
"""Bytes of a prompt on stdin. Models read some hundred tokens."""


class _Typed(list[str]):
    """The values of an option that was repeated; a message shows them as they were typed."""

    def __repr__(self) -> str:
        return repr(" ".join(map(str, self)))


def takes_request(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a request in place of its `**written`, with their values as they were written."""

    @functools.wraps(command)
    def called(**values: Any) -> None:
        command(**{name: _Typed(value) if isinstance(value, list) else value for name, value in values.items()})

    signature = inspect.signature(command, eval_str=True)
    own = [parameter for parameter in signature.parameters.values() if parameter.kind is not parameter.VAR_KEYWORD]
    # The prompt and what else comes before its options, then those of the request, then those of the command.
    first = [parameter for parameter in own if parameter.kind is not parameter.KEYWORD_ONLY]
    rest = [parameter for parameter in own if parameter.kind is parameter.KEYWORD_ONLY]
    parameters = [*first, *_parameters(), *rest]
    called.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[parameter.replace(kind=parameter.KEYWORD_ONLY) for parameter in parameters]
    )
    called.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return called


def _parameters() -> list[inspect.Parameter]:
    found = []
    for name, kind in kinds().items():
        if not kind.option.on_command_line:
            continue
        flags = [f"--{spelled.replace('_', '-')}" for spelled in (name, *kind.option.aliases)]
        if kind.name == "flag":  # Settings may have set it.
            flags[0] += f"/--no-{name.replace('_', '-')}"
        about: dict[str, Any] = {"show_default": kind.shown_default or False, "rich_help_panel": kind.option.task}
        if kind.name != "flag":
            about["metavar"] = "|".join(kind.choices) or _METAVARS[kind.name]
        if kind.choices:
            about["autocompletion"] = _completing(kind.choices)
        option = typer.Option(*flags, help=_help(kind), **about)
        # Of the kind, `declared` takes notice.
        found.append(_parameter(name, Annotated[_TYPES[kind.name], option, kind]))
        for spelling in kind.option.spellings:
            about |= {"show_default": spelling.shown_default or False, "metavar": spelling.metavar}
            other = typer.Option(f"--{spelling.name}", help=spelling.help, **about)
            found.append(_parameter(spelling.name.replace("-", "_"), Annotated[str | None, other, kind]))
    return found


def _completing(choices: tuple[str, ...]) -> Callable[[], list[str]]:
    """What a shell offers as a value."""
    return lambda: list(choices)


def _parameter(name: str, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _help(kind: Kind) -> str:
    known = " ".join(part for part in (kind.option.range, kind.option.unit) if part)
    return f"{kind.option.help.removesuffix('.')} ({known})." if known else kind.option.help


def prompt_from_stdin() -> str:
    """The prompt that stdin holds, without the end of its last line; on a terminal, the line that is typed.

    Raises:
        RequestError: It is longer than any prompt, or no UTF-8 text.
    """
    from sao_onnx.errors import RequestError

    if sys.stdin.isatty():
        typer.echo("Type the prompt and Enter.", err=True)
        data = sys.stdin.buffer.readline(LONGEST_PROMPT + 1)
    else:
        data = sys.stdin.buffer.read(LONGEST_PROMPT + 1)
    if len(data) > LONGEST_PROMPT:
        raise RequestError(f"the prompt on stdin has more than {LONGEST_PROMPT:,} bytes")
    try:
        return data.decode("utf-8-sig").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise RequestError(f"the prompt on stdin is no UTF-8 text: byte {data[error.start]:#04x} at {error.start}") from error
