"""The app as data: its commands with what they take, for man pages and completions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import typer

from sao_onnx.cli import commands as app_commands
from sao_onnx.cli.declared import COMMANDS, Declared, declared
from sao_onnx.cli.help import ORDER, OTHERS

FILE, FOLDER, MODEL, NAME = "file", "folder", "model", "name"

PLACES = {"FILE": FILE, "FOLDER": FOLDER, "BUNDLE": MODEL, "FILE[:STRENGTH]": FILE, "PLACE": FOLDER}
"""What a value is that lies on the disk, by how help names it."""

ARGUMENTS = {"file": FILE, "checkpoint": FOLDER, "folder": FOLDER, "bundle": MODEL}
"""The same for arguments, by their names."""

NAMED = ("remove", "default")
"""Commands whose argument is the name of a model."""


@dataclass(frozen=True)
class Option:
    """What may be typed behind a command.

    Attributes:
        flags: Its names; those of one letter come first. None for an argument.
        off: The name of its opposite.
        metavar: What stands for its value; "" for a flag.
        values: The values that it can have, where they are few.
        place: `FILE`, `FOLDER`, `MODEL` (a name or a folder), `NAME` of a model, or "".
        several: It may be repeated.
        required: It has to be given.
        help: A line.
        default: The default, for people.
        variable: Of the environment.
        heading: The help lists it under it.
    """

    flags: tuple[str, ...]
    off: tuple[str, ...]
    metavar: str
    values: tuple[str, ...]
    place: str
    several: bool
    required: bool
    help: str
    default: str
    variable: str
    heading: str


@dataclass(frozen=True)
class Command:
    """A command.

    Attributes:
        words: As it is typed, without the program's name.
        help: All of it; a paragraph each.
        options: With the arguments first.
        examples: Commands as they are typed.
        commands: Those below it.
    """

    words: tuple[str, ...]
    help: tuple[str, ...]
    options: tuple[Option, ...]
    examples: tuple[str, ...] = ()
    commands: tuple[Command, ...] = field(default=())

    def walk(self) -> Iterator[Command]:
        """This command, and all below it."""
        yield self
        for command in self.commands:
            yield from command.walk()


HELP = Option(("-h", "--help"), (), "", (), "", False, False, "Show the help and end.", "", "", "What is shown")
VERSION = Option(("-V", "--version"), (), "", (), "", False, False, "Show the version and end.", "", "", OTHERS)


def read_app() -> Command:
    """The whole program."""
    return _command(typer.main.get_command(app_commands.app), ())


def _command(found: Any, words: tuple[str, ...]) -> Command:
    below = tuple(_command(command, (*words, name)) for name, command in getattr(found, "commands", {}).items())
    function = COMMANDS.get(words[-1]) if words else None
    options = [VERSION] if function is None else [_option(option, words) for option in declared(function)]
    examples = next((lines for known, lines in app_commands.EXAMPLES.items() if words == (known.__name__,)), ())
    paragraphs = [" ".join(text.split()) for text in (found.help or "").split("\n\n")]
    return Command(words, tuple(paragraphs), (*_sorted(options), HELP), tuple(examples), below)


def _sorted(options: Sequence[Option]) -> list[Option]:
    return sorted(options, key=lambda option: ORDER.index(option.heading))


def _option(option: Declared, words: tuple[str, ...]) -> Option:
    info = option.info
    metavar = "" if option.type == "flag" else info.metavar or {"path": "FILE"}.get(option.type, "VALUE")
    place = PLACES.get(metavar, "")
    if not option.flags:
        metavar = info.metavar or option.name.upper()
        place = NAME if words[-1] in NAMED else ARGUMENTS.get(option.name, "")
    shown = info.show_default
    default = shown if isinstance(shown, str) else ""
    if not default and shown and option.default not in (None, False) and not option.required:
        default = "." if option.type == "path" else "" if option.type == "flag" else str(option.default)
    variable = info.envvar or ""
    letters = sorted(option.flags, key=lambda flag: flag.startswith("--"))
    text = info.help or ""
    if option.range and option.kind is None:
        text = f"{text.removesuffix('.')} ({option.range})."
    return Option(
        tuple(letters),
        option.off,
        metavar,
        option.choices,
        place,
        option.several,
        option.required,
        text,
        default,
        variable if isinstance(variable, str) else variable[0],
        (getattr(info, "rich_help_panel", None) or OTHERS) if option.flags else "Arguments",
    )
