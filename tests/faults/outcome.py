"""What came of a fault."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

from sao_onnx.errors import SaoOnnxError

T = TypeVar("T")

Verdict = Literal["refused", "same", "allowed", "wrong", "untyped", "hang", "crash"]
"""Refused with a typed error; the result without the fault, bit for bit; another one that is allowed; a file or samples that
must not be; an error of no type of ours, or a traceback; no end; the end of the process."""

VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
GOOD: tuple[Verdict, ...] = ("refused", "same", "allowed")


@dataclass(frozen=True)
class Outcome:
    """What came of a fault.

    Attributes:
        verdict: In a word.
        found: In a line; equal for faults that fail alike.
        trace: The traceback of an error that was not expected, or what the command said.
    """

    verdict: Verdict
    found: str = ""
    trace: str = ""


@dataclass(frozen=True)
class Fault:
    """A fault that is ready to be tried.

    Attributes:
        what: The fault and its input, in a line.
        run: Tries it.
    """

    what: str
    run: Callable[[], Outcome]


def attempt(call: Callable[[], T]) -> T | Outcome:
    """What code under test returns; or the outcome, where it raises."""
    try:
        return call()
    except SaoOnnxError as error:
        return Outcome("refused", str(error))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001  This is what is looked for; panics of tokenizers are no Exceptions.
        return Outcome("untyped", f"{type(error).__name__} in {_place(error)}", traceback.format_exc())


def _place(error: BaseException) -> str:
    """Where in this project an error went through last."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/sao_onnx/" in frame.filename]
    return f"{frames[-1].filename.rpartition('/sao_onnx/')[2]}:{frames[-1].name}" if frames else "no module of ours"


def wrong(found: str, trace: str = "") -> Outcome:
    """Something that must not be."""
    return Outcome("wrong", found, trace)
