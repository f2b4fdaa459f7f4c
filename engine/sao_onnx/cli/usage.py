"""Command lines that cannot be read: what is said of them in place of typer's words, which change with its releases."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Sequence
from typing import Any

from sao_onnx.cli.declared import COMMANDS, Declared, declared
from sao_onnx.cli.results import USAGE_ERROR, WrongUsageError
from sao_onnx.suggest import suggestion

OPTIONAL = {"--ray": ("auto", re.compile(r"auto|local|[^/].*:[0-9]+|.*://.*"), "HOST:PORT, auto or local")}
"""Options whose value may be left out: what is meant then, what a value looks like, and that in words."""


def with_values(arguments: Sequence[str]) -> list[str]:
    """The words of a command line with the values that were left out."""
    given: list[str] = []
    for argument, following in itertools.zip_longest(arguments, arguments[1:], fillvalue=""):
        given.append(argument)
        if argument in OPTIONAL and not OPTIONAL[argument][1].fullmatch(following):
            given.append(OPTIONAL[argument][0])
    return given


def parsed(command: Any, context: Any, arguments: list[str], parse: Any) -> list[str]:
    """What a command makes of its words.

    Args:
        command: Of typer's.
        context: Of the call.
        arguments: Its words.
        parse: Typer's own way to do it, which is given the context and the words.

    Raises:
        WrongUsageError: A value is empty or cannot be read.
    """
    given = with_values(arguments)
    try:
        rest: list[str] = parse(context, list(given))
    except USAGE_ERROR as error:
        raise _in_words(error, command, context, arguments, given) from error
    if not context.resilient_parsing:
        _refuse_empty(command, context, given)
    return rest


def without_command(error: Any, context: Any, arguments: Sequence[str]) -> Any:
    """The error of a command that there is not, or of an option before it, with a hint where `gen` may have been left out."""
    message = error.format_message()
    if option := getattr(error, "option_name", None):
        known = {flag for declared in declared_of("gen").values() for flag in declared.flags}
        before = context.parent is None and option in known
        return WrongUsageError(f"{message}; options come behind the command: sao-onnx gen", context) if before else error
    if not arguments or "Did you mean" in message:
        return error
    if near := suggestion(arguments[0], context.command.list_commands(context)):  # Not every typer does it.
        return WrongUsageError(f"{message} Did you mean {near!r}?", context)
    if context.parent is not None:
        return WrongUsageError(f"{message} Known: {', '.join(context.command.list_commands(context))}", context)
    words = itertools.takewhile(lambda word: word == "-" or not word.startswith("-"), arguments)
    if prompt := " ".join(words).strip():
        return WrongUsageError(f"{message} A prompt comes behind gen: sao-onnx gen {_quoted(prompt)}", context)
    return WrongUsageError(f'{message} A prompt comes behind gen, and has words: sao-onnx gen "short kick drum"', context)


def _quoted(word: str) -> str:
    """A word as it is typed: in quotes where it needs them, double ones, which every shell knows, if it has none itself."""
    plain = re.fullmatch(r"[\w.,+-]+", word)
    return word if plain else f'"{word}"' if not set(word) & set('"$`\\!') else shlex.quote(word)


def _in_words(error: Any, command: Any, context: Any, arguments: Sequence[str], given: Sequence[str]) -> Any:
    """The error, in words of our own where we have better ones."""
    parameter = getattr(error, "param", None)
    if parameter is None:
        message = _left_over(error.format_message(), command, arguments)
        return WrongUsageError(message, context) if message else error
    option = declared_of(command.name).get(parameter.name)
    value, source = parameter.consume_value(context, _raw(command, context, given))
    if option is None or not isinstance(value, str):
        return error
    name = parameter.envvar if source.name == "ENVIRONMENT" else _typed(option, given)
    problem = _problem(option, name, value)
    return WrongUsageError(problem, context) if problem else error


def _left_over(message: str, command: Any, arguments: Sequence[str]) -> str:
    """What is said of a word that is too many, where we know what it may have been meant as; "" elsewhere."""
    if "unexpected extra argument" not in message:
        return ""
    for argument, following in itertools.pairwise(arguments):
        if argument in OPTIONAL and following[:1] not in ("", "-") and not OPTIONAL[argument][1].fullmatch(following):
            return f"{following!r} is no value of {argument}, expected {OPTIONAL[argument][2]}"
    return (
        f'{message}; a prompt of several words is put in quotes: sao-onnx gen "short kick drum"'
        if command.name == "gen"
        else ""
    )


def _refuse_empty(command: Any, context: Any, given: Sequence[str]) -> None:
    """Refuse values without a letter: nearly always those of a variable that a script did not set."""
    raw = _raw(command, context, given)
    for name, option in declared_of(command.name).items():
        values = raw.get(name)
        if "" in (values if isinstance(values, (list, tuple)) else [values]) and not _may_be_empty(option):
            raise WrongUsageError(f"{_typed(option, given)} is empty; give it a value, or leave it out", context)


def _may_be_empty(option: Declared) -> bool:
    """Whether nothing is a value: of texts for the model, the prompt among them, which is looked at by `gen` itself."""
    return option.name == "prompt" or (option.kind is not None and option.kind.name == "text")


def _problem(option: Declared, name: str, value: str) -> str:
    """What is wrong with a number; "" where we find nothing."""
    from sao_onnx.cli.setting_values import own_value
    from sao_onnx.errors import RequestError
    from sao_onnx.option import shown

    if value == "":
        return f"{name} is empty; give it a value, or leave it out"
    if option.type not in ("number", "whole number"):
        return ""
    try:
        if option.kind is None:
            own_value(option, name, value, from_file=False)
        else:
            option.kind.read(value)
    except RequestError as error:
        return str(error)
    except ValueError as error:
        return f"{name} is {shown(value)}; {error}"
    return ""


def declared_of(command: str | None) -> dict[str, Declared]:
    """The options and arguments of a command by their parameters; none where there is no such command."""
    function = COMMANDS.get(command or "")
    return {} if function is None else {option.name: option for option in declared(function)}


def _raw(command: Any, context: Any, given: Sequence[str]) -> dict[str, Any]:
    """The values as they were typed, by parameter."""
    values: dict[str, Any] = command.make_parser(context).parse_args(list(given))[0]
    return values


def _typed(option: Declared, given: Sequence[str]) -> str:
    """An option as it stands on the command line, or an argument as help calls it."""
    words = {word.partition("=")[0] for word in given}
    found = [flag for flag in option.flags if flag in words]
    return (found or [*option.flags, str(option.info.metavar or option.name).upper()])[0]
