"""Tables of options, made of the command line itself.

`<!-- options of gen -->` in a page becomes those of `sao-onnx gen`, and `<!-- options of gen: Loops, Files -->` those that are
under these headings of its help.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

MARK = re.compile(r"^<!-- options of (?P<command>[a-z ]+)(?:: (?P<headings>[\w ,]+))? -->$", re.M)


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put tables into the places of the marks."""
    return MARK.sub(_table, markdown)


def _table(match: re.Match[str]) -> str:
    headings = match["headings"]
    return table(match["command"].split(), headings.split(", ") if headings else None)


def table(words: list[str], wanted: list[str] | None = None) -> str:
    """Arguments and options of a command in Markdown, under the headings of its help.

    Args:
        words: Of the command, without `sao-onnx`.
        wanted: Headings, by default all; where there is one, it is left out.

    Raises:
        ValueError: The help has no such heading.
    """
    from sao_onnx.cli.help import ORDER, OTHERS

    command = _command(words)
    groups: dict[str, list[str]] = {heading: [] for heading in ORDER}
    for parameter in command.params:
        argument = parameter.param_type_name == "argument"
        heading = "Arguments" if argument else getattr(parameter, "rich_help_panel", None) or OTHERS
        if not getattr(parameter, "hidden", False):
            groups[heading].append(_row(parameter, argument))
    found = {heading: rows for heading, rows in groups.items() if rows and (wanted is None or heading in wanted)}
    if missing := set(wanted or ()) - found.keys():
        raise ValueError(f"the help of {' '.join(words)} has no heading {min(missing)!r}")
    lines = []
    for heading, rows in found.items():
        lines += [] if len(found) == 1 else [f"**{heading}**", ""]
        lines += ["| name | what | default |", "|---|---|---|", *rows, ""]
    return "\n".join(lines).rstrip()


def _command(words: list[str]) -> Any:
    from typer.main import get_command

    from sao_onnx.cli.commands import app

    found: Any = get_command(app)
    for word in words:
        found = found.commands[word]
    return found


def _row(parameter: Any, argument: bool) -> str:
    if argument:
        names = f"`{parameter.metavar or parameter.name.upper()}`"
    else:
        value = f" {parameter.metavar}" if parameter.metavar and not parameter.is_flag else ""
        names = ", ".join(f"`{name}{value}`" for name in sorted((*parameter.opts, *parameter.secondary_opts), key=_short_last))
    text = str(parameter.help or "")
    if parameter.envvar:
        text += f" Also the variable `{parameter.envvar}`."
    # A stroke between backquotes does not end a cell here.
    return " | ".join(["", names, *(cell.replace("|", "\\|") for cell in (text, _default(parameter))), ""]).strip()


def _default(parameter: Any) -> str:
    """What holds where an option is not given; "" where there is nothing to say."""
    shown, value = parameter.show_default, parameter.default
    if isinstance(shown, str):
        return f"`{shown}`" if "{" in shown else shown
    if not shown or value is None or isinstance(value, bool) or callable(value) or value == ():
        return ""
    return f"`{value}`"


def _short_last(name: str) -> bool:
    return not name.startswith("--")
