"""`sao-onnx config`: the user's settings, and where each comes from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sao_onnx.cli.command_options import SHOWN, Force, Json
from sao_onnx.cli.streams import printable
from sao_onnx.cli.terminal import note

if TYPE_CHECKING:
    from pathlib import Path

    from sao_onnx.cli.declared import Declared
    from sao_onnx.cli.settings import Applied

INTRODUCTION = """\
# Settings of sao-onnx: defaults for the options of its commands.
#
# The command line comes first, then variables of the environment (SAO_ONNX_STEPS, SAO_ONNX_GEN_STEPS), then this file, then
# the model. Take the # away from a line to use it. What is said in the table of a command comes before what is said for all.
# `sao-onnx config` shows what applies. A clip that is made again with --from is made as its file says.
"""


def config(
    init: Annotated[
        bool, typer.Option("--init", help="Write a file to begin with: every setting, as a comment.", rich_help_panel=SHOWN)
    ] = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Show the settings that apply, and where each comes from."""
    from sao_onnx.cli.settings import unknown_variables
    from sao_onnx.cli.settings_file import settings_path

    path = settings_path()
    if init:
        print(printable(str(_written(path, force))))
        return
    found = _found()
    unknown = unknown_variables()
    if as_json:
        rows = {name: {row.key: {"value": row.value, "from": row.source} for row in applied} for name, applied in found.items()}
        about = {"file": None if path is None else str(path), "settings": rows, "unknown_variables": unknown}
        print(json.dumps(about, default=str))
        return
    for line in (*_about_file(path), *_lines(found)):
        print(printable(line))
    for name, near in unknown.items():
        note(f"warning: the variable {name} means nothing{f'; did you mean {near}?' if near else ''}")


def _found() -> dict[str, list[Applied]]:
    """What applies to each command."""
    from sao_onnx.cli.settings import check_all, commands, settled

    check_all()
    nothing = {name: dict.fromkeys(option.name for option in keys.values()) for name, keys in commands().items()}
    return {name: settled(name, (), values)[1] for name, values in nothing.items()}


def _about_file(path: Path | None) -> Iterator[str]:
    if path is None:
        yield "file        none"
    elif path.exists():
        yield f"file        {path}"
    else:
        yield f"file        {path}, which is not there; `sao-onnx config --init` writes one to begin with"
    yield "order       command line, environment, file, model"


def _lines(found: dict[str, list[Applied]]) -> Iterator[str]:
    """Each setting once, with the commands that use it."""
    rows: dict[Any, list[str]] = {}
    for name, applied in found.items():
        for setting in applied:
            rows.setdefault(setting.line, []).append(name)
    for line, names in rows.items():
        yield f"{line} (for {', '.join(names)})"
    if not rows:
        yield "setting     none: every option is left to the model"


def _written(path: Path | None, force: bool) -> Path:
    """Write a file to begin with; where it is."""
    from sao_onnx.errors import FileError
    from sao_onnx.writing import write_whole

    if path is None:
        raise FileError("there is no place for a file of settings; set HOME, or SAO_ONNX_CONFIG to the name of a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{path.parent} cannot be made: {error.strerror or error}") from error
    write_whole(path, starter().encode(), overwrite=force)
    return path


def starter() -> str:
    """The text of a file to begin with: every setting, as a comment that says what it is."""
    from sao_onnx.cli.settings import commands, shared_keys

    shared = shared_keys()
    parts = [INTRODUCTION, *_comments(shared)]
    for name, keys in commands().items():
        own = {key: option for key, option in keys.items() if key not in shared}
        if own:
            parts += [f"\n[{name}]\n", *_comments(own)]
    return "".join(parts)


def _comments(keys: dict[str, Declared]) -> Iterator[str]:
    """The settings of a table, each under its first name alone."""
    from sao_onnx.cli.settings import written
    from sao_onnx.request import kinds

    seen: list[Declared] = []
    for key, option in keys.items():
        if option in seen or (option.kind is not None and option.name not in kinds()):
            continue  # Another name or spelling.
        seen.append(option)
        shown = option.info.show_default
        about = (option.info.help or "").rstrip(".")
        ranges = f" ({option.range})" if option.range else ""
        otherwise = shown if isinstance(shown, str) else "" if option.default is None else written(option.default)
        default = f", by default {otherwise}" if otherwise else ""
        yield f"\n# {about}{ranges}{default}.\n#{key} = {_sample(option)}\n"


def _sample(option: Declared) -> str:
    """A value that a setting can have: its default where that is a value, or else an example."""
    from sao_onnx.cli.settings import written

    shown = option.info.show_default
    if option.kind is not None and option.kind.name == "numbers":
        return "{ bpm = 120 }"
    if option.choices:
        value: Any = option.choices[0]
        return value if option.type == "whole number" else written(value)
    if option.default not in (None, False) or option.type == "flag":
        return written(option.default if option.type != "flag" else not option.default)
    if option.type in ("number", "whole number"):
        low = option.info.min if option.kind is None else option.kind.option.minimum
        least = max(1, low or 0)
        return f"{shown}" if isinstance(shown, str) and shown.lstrip("-").replace(".", "").isdigit() else f"{least:g}"
    return written(shown if isinstance(shown, str) and "/" not in shown and " " not in shown else "...")
