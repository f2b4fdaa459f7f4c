"""The JSON of a request, derived from the one declaration of options."""

from __future__ import annotations

from typing import Any

from sao_onnx.option import Kind
from sao_onnx.request import kinds
from sao_onnx.serve.settings import Limits

NOT_IN_JSON = {"init_audio", "latents"}
"""Arrays and files. Audio is sent beside the JSON, as a part of a form; nothing on the server can be named."""


def option_schema(kind: Kind) -> dict[str, Any]:
    """The JSON schema of an option."""
    option = kind.option
    found: dict[str, Any] = {"description": option.help}
    match kind.name:
        case "number" | "whole number":
            found["type"] = "number" if kind.name == "number" else "integer"
            if option.minimum is not None:
                found["exclusiveMinimum" if option.above else "minimum"] = option.minimum
            if option.maximum is not None:
                found["maximum"] = option.maximum
        case "flag":
            found["type"] = "boolean"
        case "choice":
            found |= {"type": "string", "enum": list(kind.choices)}
        case "regions":
            pair = {"type": "array", "items": {"type": "number", "minimum": 0}, "minItems": 2, "maxItems": 2}
            found |= {"type": "array", "items": pair, "maxItems": 1_000}
        case "numbers":
            found |= {"type": "object", "additionalProperties": {"type": "number"}}
        case _:
            found["type"] = "string"
    if option.unit:
        found["x-unit"] = option.unit
    if kind.shown_default:
        found["x-default"] = kind.shown_default
    if kind.optional:
        found["type"] = [found["type"], "null"]
        if "enum" in found:
            found["enum"] = [*found["enum"], None]
    else:
        found["default"] = kind.default
    return found


def request_schema(models: list[str], limits: Limits) -> dict[str, Any]:
    """The JSON schema of a request.

    Args:
        models: Names that may be given.
        limits: Of the server.
    """
    options = {name: option_schema(kind) for name, kind in kinds().items() if name not in NOT_IN_JSON}
    options["seconds"]["maximum"] = options["extend"]["maximum"] = limits.seconds
    options["steps"]["maximum"] = limits.steps
    options["negative_prompt"]["maxLength"] = limits.prompt
    own = {
        "prompt": {"type": "string", "maxLength": limits.prompt, "description": "A description of the sound."},
        "model": {"type": "string", "enum": models, "default": models[0], "description": "Name of the model."},
        "preview": {
            "type": "boolean",
            "default": False,
            "description": "Make estimates of the audio while it is sampled; takes more time.",
        },
    }
    return {"type": "object", "required": ["prompt"], "properties": own | options, "additionalProperties": False}
