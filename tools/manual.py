"""Man pages of the commands, in the language of man(7)."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from itertools import groupby

from sao_onnx.version import __version__
from tools.app import Command, Option

PROGRAM = "sao-onnx"

WIDTH = 70
"""Characters of a line before some of them are escaped."""

EXIT_CODES = {
    "0": "Done.",
    "1": "Failed.",
    "2": "Wrong usage: an option, a value or a setting.",
    "3": "The bundle is missing, damaged, or of another format.",
    "130": "Interrupted.",
}

FILES = {
    "$XDG_CONFIG_HOME/sao-onnx/config.toml": "Settings; sao-onnx config --init writes one. By default in ~/.config.",
    "$XDG_DATA_HOME/sao-onnx/models": "Bundles, each known by the name of its folder. By default in ~/.local/share.",
}

VARIABLES = {
    "SAO_ONNX_CONFIG": "Another file of settings.",
    "SAO_ONNX_STEPS, SAO_ONNX_GEN_STEPS, ...": "Settings, for all commands or for one.",
    "SAO_ONNX_VERIFY": "0: bundles are used without a look at their digests.",
    "NO_COLOR": "No colours.",
}


def page_name(command: Command) -> str:
    """The name of a command's page: sao-onnx-gen."""
    return "-".join((PROGRAM, *command.words))


def page(command: Command, program: Command) -> str:
    """The man page of a command.

    Args:
        command: The command.
        program: The whole program, which it is a part of.
    """
    return "\n".join(_lines(command, program)) + "\n"


def _lines(command: Command, program: Command) -> Iterator[str]:
    name = page_name(command)
    yield '.\\" Made by python -m tools.shipped of what the command declares.'
    yield f'.TH {name.upper()} 1 "" "{PROGRAM} {__version__}" "{PROGRAM}"'
    yield ".SH NAME"
    yield f"{_line(name)} \\- {_line(_first_sentence(command.help[0]))}"
    yield from _synopsis(command)
    yield ".SH DESCRIPTION"
    for number, paragraph in enumerate(command.help):
        yield from ([".PP"] if number else [])
        yield _text(paragraph)
    if command.commands:
        yield ".SH COMMANDS"
        for below in command.commands:
            yield from (".TP", f".BR {_text(page_name(below))} (1)", _text(below.help[0]))
    yield from _options(command)
    yield from _end(command, program)


def _synopsis(command: Command) -> Iterator[str]:
    yield ".SH SYNOPSIS"
    words = " ".join((PROGRAM, *command.words))
    arguments = "".join(
        f" \\fI{_text(option.metavar)}\\fR" if option.required else f" [\\fI{_text(option.metavar)}\\fR]"
        for option in command.options
        if not option.flags
    )
    below = " [\\fICOMMAND\\fR ...]" if command.commands else ""
    yield f"\\fB{_text(words)}\\fR [\\fIOPTION\\fR ...]{arguments}{below}"


def _options(command: Command) -> Iterator[str]:
    for heading, options in groupby(command.options, key=lambda option: option.heading):
        yield ".SH OPTIONS" if heading == "Options" else f".SH {heading.upper()}"
        for option in options:
            yield from (".TP", _tag(option), _about(option))


def _tag(option: Option) -> str:
    if not option.flags:
        return f"\\fI{_text(option.metavar)}\\fR"
    flags = ", ".join(f"\\fB{_text(flag)}\\fR" for flag in (*option.flags, *option.off))
    value = re.sub(r"[^|:=\[\]]+", lambda part: f"\\fI{_text(part[0])}\\fR", option.metavar)
    return flags + (f" {value}" if value else "")


def _about(option: Option) -> str:
    parts = [option.help]
    parts += [f"Default: {option.default}."] if option.default else []
    parts += [f"Variable: {option.variable}."] if option.variable else []
    return _text(" ".join(parts))


def _end(command: Command, program: Command) -> Iterator[str]:
    if command.examples:
        yield ".SH EXAMPLES"
        yield ".EX"
        yield from (_line(line) for line in command.examples)
        yield ".EE"
    if not command.words:
        for heading, about in (("ENVIRONMENT", VARIABLES), ("FILES", FILES), ("EXIT STATUS", EXIT_CODES)):
            yield f".SH {heading}"
            for tag, text in about.items():
                yield from (".TP", f"\\fB{_text(tag)}\\fR", _text(text))
    yield ".SH SEE ALSO"
    others = [other for other in program.walk() if other is not command and _near(command, other)]
    for number, other in enumerate(others, start=1):
        yield f".BR {_text(page_name(other))} (1)" + ("," if number < len(others) else "")


def _near(command: Command, other: Command) -> bool:
    """Whether a page is named by another one: those above and below it."""
    shorter, longer = sorted((command.words, other.words), key=len)
    return len(longer) - len(shorter) == 1 and longer[: len(shorter)] == shorter


def _first_sentence(text: str) -> str:
    return re.split(r"[.;:] |\.$", text)[0]


def _text(text: str) -> str:
    """Lines that troff takes for text."""
    return "\n".join(_line(line) for line in textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False))


def _line(text: str) -> str:
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")
    return f"\\&{text}" if text.startswith((".", "'")) else text
