"""File names from a template. They are safe on every file system and known before any work."""

from __future__ import annotations

import re
import string
from pathlib import Path

FIELDS = ("prompt", "seed", "index")
LONGEST = 60


def slug(prompt: str) -> str:
    """A prompt as part of a file name."""
    return re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:LONGEST].rstrip("-") or "clip"


def fields(template: str) -> set[str]:
    """The fields in a template.

    Raises:
        RequestError: A brace has no partner, or a field is unknown.
    """
    from sao_onnx.errors import RequestError

    try:
        found = {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
    except ValueError as error:
        raise RequestError(f"the name {template!r} cannot be read: {error}") from error
    if unknown := found - set(FIELDS):
        raise RequestError(f"the name {template!r} has the field {min(unknown)!r}; known: {', '.join(FIELDS)}")
    return found


def file_name(template: str, *, prompt: str, seed: int, index: int) -> Path:
    """The path that a template gives; raises as `fields` does.

    Args:
        template: For example "{index}-{prompt}.wav". A format may follow a field: "{index:03}".
        prompt: Becomes letters, digits and hyphens.
        seed: Of the clip.
        index: From 1.
    """
    from sao_onnx.errors import RequestError

    fields(template)
    try:
        return Path(template.format(prompt=slug(prompt), seed=seed, index=index))
    except ValueError as error:
        raise RequestError(f"the name {template!r} cannot be read: {error}") from error


def for_several(template: str) -> str:
    """A template that gives every seed another name: the same one if it does so, or else with the seed before the suffix."""
    if fields(template) & {"seed", "index"}:
        return template
    path = Path(template)
    return str(path.with_name(path.stem + "-{seed}" + path.suffix))
