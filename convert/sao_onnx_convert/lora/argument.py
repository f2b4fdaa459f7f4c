"""A LoRA on the command line: `FILE` or `FILE:STRENGTH`."""

from __future__ import annotations

import math
import re
from pathlib import Path

from sao_onnx_convert.errors import ConversionError

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?(nan|inf|infinity)", re.ASCII | re.IGNORECASE)


def parse(text: str) -> tuple[str, float]:
    """The path and the strength of a LoRA; 1 where there is none.

    What is after the last colon is a strength if it is a number, so the colon of a drive begins none. A file of the whole name
    comes first, so a path can end in a colon and a number.

    Raises:
        ConversionError: The strength is not a finite number.
    """
    path, colon, strength = text.rpartition(":")
    if not path or not colon or _exists(text):
        return text, 1.0
    if not NUMBER.fullmatch(strength):
        if _exists(path):
            raise _refused(text, strength)
        return text, 1.0
    value = float(strength)
    if not math.isfinite(value):
        raise _refused(text, strength)
    return path, value


def _refused(text: str, strength: str) -> ConversionError:
    return ConversionError(f"{text}: the strength is {strength!r}, expected a finite number, for example 0.8")


def _exists(path: str) -> bool:
    try:
        return Path(path).expanduser().exists()
    except (OSError, ValueError, RuntimeError):
        return False
