"""What `--help` of a command looks like: options under headings by task, and examples."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand

from sao_onnx.cli.command_options import FILES, MACHINE, SHOWN
from sao_onnx.option import LEVEL, LOOPS, RECORDING, SOUND

if TYPE_CHECKING:
    from collections.abc import Sequence

OTHERS = "Options"
"""Heading of options that name none."""

ORDER = ("Arguments", SOUND, RECORDING, LOOPS, LEVEL, OTHERS, FILES, MACHINE, SHOWN)
"""Of the headings."""


OPPOSITE = re.compile(r"--([\w-]+) / --no-\1\b")
"""A flag and its opposite, as typer writes them."""

TYPE = re.compile(r" <[\w ]+>$")
"""A type of Python's, as typer writes it behind the name of an argument."""

RANGE = re.compile(r"(?:(?P<low>[-\d.]+)<=)?x(?:<=(?P<high>[-\d.]+)|>=(?P<least>[-\d.]+))?(?=\])")
"""A range, as typer writes it at the end of a help."""


class Command(TyperCommand):
    """A command whose options stand under headings."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments and the options."""
        groups: dict[str, list[tuple[str, str]]] = {heading: [] for heading in ORDER}
        for parameter in self.get_params(ctx):
            if (record := parameter.get_help_record(ctx)) is not None:
                flags, text = record
                flags = TYPE.sub("", OPPOSITE.sub(r"--[no-]\1", flags))
                groups[_heading(parameter)].append((flags, RANGE.sub(_in_words, text)))
        for heading, records in groups.items():
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)


def _in_words(range: re.Match[str]) -> str:
    """A range as the other options have it."""
    low, high = range["low"] or range["least"], range["high"]
    return f"{low} to {high}" if low and high else f"at least {low}" if low else f"at most {high}"


def _heading(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return "Arguments"
    if parameter.name == "help":
        return SHOWN
    return getattr(parameter, "rich_help_panel", None) or OTHERS


def examples(lines: Sequence[str]) -> str:
    """The end of a help: commands as they are typed, a line each."""
    # The lines of a paragraph that begins with this character are kept as they are.
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
