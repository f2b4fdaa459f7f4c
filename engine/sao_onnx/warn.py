"""Warnings that point at the line of the user's program that caused them."""

from __future__ import annotations

import contextlib
import contextvars
import sys
import warnings
from collections.abc import Iterator

PACKAGE = __name__.partition(".")[0]

OURS = (PACKAGE, "contextlib")
"""What stands between a warning and the program that caused it; `with` blocks go by way of contextlib."""

_kept: contextvars.ContextVar[list[tuple[str, type[Warning]]] | None] = contextvars.ContextVar("kept", default=None)


def warn(message: str, category: type[Warning]) -> None:
    """Issue a warning about the nearest line outside of this package; or keep it, inside of `kept_warnings`."""
    kept = _kept.get()
    if kept is not None:
        kept.append((message, category))
        return
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and str(frame.f_globals.get("__name__", "")).partition(".")[0] in OURS:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


@contextlib.contextmanager
def kept_warnings() -> Iterator[list[tuple[str, type[Warning]]]]:
    """Keep the warnings of this thread for another one, which can say whose program caused them, and has its filters.

    Yields:
        Messages and categories, for `warn`.
    """
    kept: list[tuple[str, type[Warning]]] = []
    token = _kept.set(kept)
    try:
        yield kept
    finally:
        _kept.reset(token)
