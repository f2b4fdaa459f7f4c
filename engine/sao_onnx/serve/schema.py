"""The JSON of a request, derived from the one declaration of options."""

from __future__ import annotations

from typing import Any

from sao_onnx.option import Kind
from sao_onnx.request import kinds
from sao_onnx.serve.settings import Limits

NOT_IN_JSON = {"init_audio", "latents"}
"""Arrays and files. Audio is sent beside the JSON, as a part of a form; nothing on the server can be named."""


_TYPES: dict[str, dict[str, Any]] = {
    "number": {"type": "number"},
    "whole number": {"type": "integer"},
    "flag": {"type": "boolean"},
    "choice": {"type": "string"},
    "text": {"type": "string"},
    "regions": {
        "type": "array",
        "items": {"type": "array", "items": {"type": "number", "minimum": 0}, "minItems": 2, "maxItems": 2},
        "maxItems": 1_000,
    },
    "numbers": {"type": "object", "additionalProperties": {"type": "number"}},
}


def option_schema(kind: Kind) -> dict[str, Any]:
    """The JSON schema of an option."""
    option = kind.option
    found: dict[str, Any] = {"description": option.help, **_TYPES[kind.name]}
    about = {
        "exclusiveMinimum" if option.above else "minimum": option.minimum,
        "maximum": option.maximum,
        "enum": list(kind.choices) or None,
        "x-unit": option.unit or None,
        "x-default": kind.shown_default or None,
    }
    found |= {name: value for name, value in about.items() if value is not None}
    if not kind.optional:
        return found | {"default": kind.default}
    found["type"] = [found["type"], "null"]
    if kind.choices:
        found["enum"] = [*kind.choices, None]
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
