"""What `--help` of a command looks like: options under headings by task, and examples."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand

from sao_onnx.cli import wording
from sao_onnx.cli.command_options import FILES, MACHINE, SHOWN
from sao_onnx.option import LEVEL, LOOPS, RECORDING, SOUND

if TYPE_CHECKING:
    from collections.abc import Sequence

OTHERS = "Options"
"""Heading of options that name none."""

ORDER = ("Arguments", SOUND, RECORDING, LOOPS, LEVEL, OTHERS, FILES, MACHINE, SHOWN)
"""Of the headings."""


OPTIONAL = {"--ray": ("auto", re.compile(r"auto|local|[^/].*:[0-9]+|.*://.*"))}
"""Options whose value may be left out: what is meant then, and what a value looks like."""


class Command(TyperCommand):
    """A command whose options stand under headings, and some of which do without a value."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the command line."""
        given: list[str] = []
        for argument, following in itertools.zip_longest(args, args[1:], fillvalue=""):
            given.append(argument)
            if argument in OPTIONAL and not OPTIONAL[argument][1].fullmatch(following):
                given.append(OPTIONAL[argument][0])
        parsed: list[str] = super().parse_args(ctx, given)
        return parsed

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments and the options."""
        groups: dict[str, list[tuple[str, str]]] = {heading: [] for heading in ORDER}
        for parameter in self.get_params(ctx):
            if (record := parameter.get_help_record(ctx)) is not None:
                flags, text = record
                groups[_heading(parameter)].append((wording.flags(flags), wording.ranges(text)))
        for heading, records in groups.items():
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)


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
