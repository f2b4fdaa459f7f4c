"""What `--help` of a command looks like: options under headings by task, and examples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand, TyperGroup

from sao_onnx.cli import usage, wording
from sao_onnx.cli.command_options import FILES, MACHINE, SHOWN
from sao_onnx.cli.results import USAGE_ERROR
from sao_onnx.option import LEVEL, LOOPS, RECORDING, SOUND

if TYPE_CHECKING:
    from collections.abc import Sequence

OTHERS = "Options"
"""Heading of options that name none."""

ORDER = ("Arguments", SOUND, RECORDING, LOOPS, LEVEL, OTHERS, FILES, MACHINE, SHOWN)
"""Of the headings."""


LONGEST_SUMMARY = 200
"""Characters of the line about a command in the list of all; typer cuts at 45."""


class _Help:
    """Help whose lines are not broken at hyphens."""

    help: str | None

    def get_help(self, ctx: Any) -> str:
        """The whole help of a command."""
        return wording.hyphenated(super().get_help(ctx))  # type: ignore[misc]

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        """Write what the command is for."""
        text = self.help
        self.help = wording.unbroken(text or "")
        try:
            super().format_help_text(ctx, formatter)  # type: ignore[misc]
        finally:
            self.help = text


class Group(_Help, TyperGroup):
    """Commands that are listed with what they do, uncut."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands."""
        found = [(name, command) for name in self.list_commands(ctx) if (command := self.get_command(ctx, name)) is not None]
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, wording.unbroken(command.get_short_help_str(LONGEST_SUMMARY))) for name, command in found]
            )

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read what stands before the command."""
        try:
            parsed: list[str] = super().parse_args(ctx, args)
        except USAGE_ERROR as error:
            raise usage.without_command(error, ctx, args) from error
        return parsed

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that is named, and the words behind its name."""
        try:
            return super().resolve_command(ctx, args)
        except USAGE_ERROR as error:
            raise usage.without_command(error, ctx, args) from error


class Command(_Help, TyperCommand):
    """A command whose options stand under headings, and some of which do without a value."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the command line."""
        return usage.parsed(self, ctx, args, super().parse_args)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments and the options."""
        groups: dict[str, list[tuple[str, str]]] = {heading: [] for heading in ORDER}
        for parameter in self.get_params(ctx):
            if (record := parameter.get_help_record(ctx)) is not None:
                flags, text = record
                groups[_heading(parameter)].append(
                    (wording.unbroken(wording.flags(flags)), wording.unbroken(wording.ranges(text)))
                )
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
