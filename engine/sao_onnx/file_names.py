"""File names from a template. They are safe on every file system and known before any work."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from pathlib import Path

from sao_onnx.errors import RequestError
from sao_onnx.slug import slug

FIELDS = ("prompt", "seed", "index")
"""What every template can hold."""

WIDEST = 100
"""The largest number in the format of a field."""


def fields(template: str, known: Sequence[str] = FIELDS) -> set[str]:
    """The fields in a template.

    Args:
        template: For example "{index}-{prompt}.wav".
        known: Those that it can hold.

    Raises:
        RequestError: A brace has no partner, a field is unknown, or its format is too large.
    """
    try:
        found = [(name, format or "") for _, name, format, _ in string.Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise RequestError(f"the name {template!r} cannot be read: {error}; a brace itself is written twice") from error
    for name, format in found:
        if name not in known:
            raise RequestError(
                f"the name {template!r} has the field {name!r}; known: {', '.join(known)}; a brace itself is written twice"
            )
        if "{" in format or any(int(number) > WIDEST for number in re.findall("[0-9]{1,9}", format)):
            raise RequestError(f"the name {template!r} has the format {format!r}; expected numbers of at most {WIDEST} in it")
    return {name for name, _ in found}


def file_name(template: str, *, prompt: str, seed: int, index: int, **others: str) -> Path:
    """The path that a template gives; raises as `fields` does.

    Args:
        template: For example "{index}-{prompt}.wav". A format may follow a field: "{index:03}".
        prompt: Becomes letters, digits and hyphens; see `slug`.
        seed: Of the clip.
        index: From 1.
        **others: Further fields by their names.
    """
    fields(template, (*FIELDS, *others))
    try:
        return Path(template.format(prompt=slug(prompt), seed=seed, index=index, **others))
    except ValueError as error:
        raise RequestError(f"the name {template!r} cannot be read: {error}") from error


def for_several(template: str) -> str:
    """A template that gives every seed another name: the same one if it does so, or else with the seed before the suffix."""
    if fields(template) & {"seed", "index"}:
        return template
    path = Path(template)
    if not path.name:  # It is no file, which is said later.
        return template
    return str(path.with_name(path.stem + "-{seed}" + path.suffix))
