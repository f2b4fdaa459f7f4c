"""Words for people in place of what typer writes of types and ranges."""

from __future__ import annotations

import re

HYPHEN = "\ue000"
"""Stands for a hyphen while lines are broken, which is done behind hyphens, too: no name or command is torn apart."""

_OPPOSITE = re.compile(r"--([\w-]+) / --no-\1\b")
_TYPE = re.compile(r" <[\w ]+>$")
_NUMBER = r"-?\d+(?:\.\d+)?"
_RANGE = re.compile(rf"(?P<low>{_NUMBER})<=x<=(?P<high>{_NUMBER})|x>=(?P<least>{_NUMBER})|x<=(?P<most>{_NUMBER})")


def unbroken(text: str) -> str:
    """A text whose hyphens end no line; what is made of it goes through `hyphenated`."""
    return text.replace("-", HYPHEN)


def hyphenated(text: str) -> str:
    """A text with its hyphens again."""
    return text.replace(HYPHEN, "-")


def flags(text: str) -> str:
    """A flag with its opposite as `--[no-]mono`, and no type of Python's behind the name of an argument."""
    return _TYPE.sub("", _OPPOSITE.sub(r"--[no-]\1", text))


def ranges(text: str) -> str:
    """Ranges such as `0<=x<=9` as the other options have them."""
    return _RANGE.sub(_in_words, text)


def _in_words(range: re.Match[str]) -> str:
    if range["low"]:
        return f"{range['low']} to {range['high']}"
    return f"at least {range['least']}" if range["least"] else f"at most {range['most']}"
