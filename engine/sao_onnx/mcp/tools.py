"""The tools: which options each of them takes, as an assistant reads them, and what a call of one asks for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sao_onnx.audio.files import audio_seconds
from sao_onnx.audio.formats import AUDIO_FORMATS
from sao_onnx.errors import AudioFileError, RequestError
from sao_onnx.mcp.folder import Folder
from sao_onnx.option import LEVEL, LOOPS, RECORDING, SOUND, Kind, shown, text, unknown_option
from sao_onnx.planning.planner import EXTENSION_DECIDES
from sao_onnx.provenance import read_provenance
from sao_onnx.request import Request, initial_file, kinds
from sao_onnx.serve.bodies import limited
from sao_onnx.serve.schema import NOT_IN_JSON, option_schema
from sao_onnx.serve.settings import Limits

FORMATS = tuple(suffix[1:] for suffix in AUDIO_FORMATS)

LIST_MODELS = "list_models"
"""Name of the tool that makes nothing."""

OWN = ("prompt", "clip", "model", "name", "format")
"""Parameters that are no options of a request."""


@dataclass(frozen=True)
class Tool:
    """A tool that makes a clip.

    Attributes:
        title: For people.
        description: What it does, for the assistant that chooses.
        options: Names of the options of a request that it takes.
        needs: Parameters that a call must have.
        clip: It starts from a clip of the folder.
    """

    title: str
    description: str
    options: tuple[str, ...]
    needs: tuple[str, ...]
    clip: bool = False


def _options(*tasks: str, without: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The names of the options of some tasks."""
    left_out = {*NOT_IN_JSON, *without}
    return tuple(name for name, kind in kinds().items() if kind.option.task in tasks and name not in left_out)


TOOLS: Mapping[str, Tool] = {
    "generate": Tool(
        "Make a sound",
        "Make a sound or a piece of music from a description in words, and save it as an audio file.",
        _options(SOUND, LEVEL),
        ("prompt",),
    ),
    "vary": Tool(
        "Vary a clip",
        "Make another version of a clip that was made before. init_noise_level says how far it may go from it. With keep or "
        "regenerate, a part of it is made anew and the rest stays as it is.",
        _options(SOUND, RECORDING, LEVEL, without=("extend",)),
        ("clip",),
        clip=True,
    ),
    "loop": Tool(
        "Make a loop",
        "Make a loop whose end leads into its start without a seam. With bpm and bars it is exactly that long.",
        _options(SOUND, LOOPS, LEVEL, without=("loop",)),
        ("prompt",),
    ),
    "extend": Tool(
        "Make a clip longer",
        "Go on from the end of a clip that was made before. The result is the clip, unchanged, and what was added. The level "
        "goes on best where the clip was made with normalize none.",
        _options(SOUND, RECORDING, LEVEL, without=(*EXTENSION_DECIDES, "init_noise_level")),
        ("clip", "extend"),
        clip=True,
    ),
}


@dataclass(frozen=True)
class Call:
    """What a call of a tool asks for.

    Attributes:
        request: With its seed.
        model: Its name; "" for the default one.
        name: What the file shall be called; "" where nothing was said.
        suffix: Of the file, with its dot.
    """

    request: Request
    model: str
    name: str
    suffix: str


def schema(tool: Tool, models: list[str], limits: Limits) -> dict[str, Any]:
    """The JSON schema of the parameters of a tool.

    Args:
        tool: The tool.
        models: Names that may be given, the default first.
        limits: Of the server.
    """
    prompt = "A description of the sound, in a few English words."
    properties: dict[str, Any] = {
        "prompt": {"type": "string", "description": f"{prompt} By default that of the clip." if tool.clip else prompt}
    }
    if tool.clip:
        properties["clip"] = {"type": "string", "description": "Name of the file to start from, as an answer gave it."}
    properties |= {name: _parameter(kinds()[name]) for name in tool.options}
    for name, most in (("seconds", limits.seconds), ("extend", limits.seconds), ("steps", limits.steps)):
        if name in properties:
            properties[name]["maximum"] = most
    properties |= {
        "model": {"type": "string", "enum": models, "description": f"Name of the model. By default {models[0]}."},
        "name": {
            "type": "string",
            "description": "What the file is called, without its ending. By default prompt and seed.",
        },
        "format": {"type": "string", "enum": list(FORMATS), "description": f"Of the file. By default {FORMATS[0]}."},
    }
    return {"type": "object", "properties": properties, "required": list(tool.needs), "additionalProperties": False}


def _parameter(kind: Kind) -> dict[str, Any]:
    """The JSON schema of an option, of the plainest kind: not every assistant reads all of JSON schema."""
    found = option_schema(kind)
    unit, default = found.pop("x-unit", ""), found.pop("x-default", "")
    if isinstance(found["type"], list):  # What need not be given need not be null either.
        found["type"] = found["type"][0]
    if kind.choices:
        found["enum"] = list(kind.choices)
    help = _plain(found["description"])
    help += f" In {unit}." if unit and unit.lower() not in help.lower() else ""
    found["description"] = help + (f" By default {default}." if default and "default" not in found else "")
    return found


_SPELLINGS = {"With --init-audio: ": "", "FROM:TO, in seconds,": "[from, to], in seconds,", "FROM:TO": "[from, to]"}
_SPELLINGS |= {"; may be repeated": "", "`inspect`": f"`{LIST_MODELS}`"}
"""What only a command line has, and what stands for it here."""


def _plain(help: str) -> str:
    """A line of help without the spellings of a command line."""
    for spelling, plain in _SPELLINGS.items():
        help = help.replace(spelling, plain)
    help = re.sub(r"--([a-z-]+)", lambda found: found[1].replace("-", "_"), help)
    return help[0].upper() + help[1:]


def call(tool: Tool, arguments: Mapping[str, Any], folder: Folder, limits: Limits) -> Call:
    """What a call asks for.

    Args:
        tool: The tool.
        arguments: Of the call.
        folder: Where clips are.
        limits: Of the server.

    Raises:
        RequestError: An argument is missing, unknown or out of range, or there is no such clip.
        AudioFileError: The clip does not say how it was made, and the call does not say a prompt.
    """
    given = {name: value for name, value in arguments.items() if value is not None}
    for name in tool.needs:
        if name not in given:
            raise RequestError(f"{name} is missing")
    allowed = {*OWN, *tool.options} - (set() if tool.clip else {"clip"})
    for name in given:
        if name not in allowed:
            raise unknown_option(name, sorted(allowed))
    options = {name: value for name, value in given.items() if name not in OWN}
    prompt = given.get("prompt")
    if tool.clip:
        options["init_audio"] = source = folder.clip(text("clip", given["clip"]))
        prompt = _prompt(source) if prompt is None else prompt
    if tool is TOOLS["loop"] and "bars" not in options and "bpm" not in options:
        options["loop"] = True
    return Call(
        limited(prompt, options, limits),
        text("model", given.get("model", "")),
        text("name", given.get("name", "")),
        _suffix(given.get("format", FORMATS[0])),
    )


def as_long_as_its_source(request: Request, window: float) -> Request:
    """A variation that is not told how long to be is as long as what it starts from.

    Args:
        request: What is asked for.
        window: Of the model, in seconds; a variation can have no more.

    Raises:
        AudioFileError: The clip cannot be read.
    """
    file = initial_file(request)
    if file is None or request.extend is not None or request.seconds is not None or request.full_window:
        return request
    left = audio_seconds(file) - (request.init_start or 0.0)
    return replace(request, seconds=left) if 0 < left < window else request


def _suffix(format: Any) -> str:
    if format not in FORMATS:
        raise RequestError(f"format is {shown(format)}, expected {' or '.join(FORMATS)}")
    return f".{format}"


def _prompt(path: Path) -> str:
    """The prompt that a clip was made from."""
    try:
        return read_provenance(path).prompt
    except AudioFileError as error:
        raise AudioFileError(f"{error}; give a prompt") from error
