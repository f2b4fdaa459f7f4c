"""The word that was meant, where another one was written."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

LONGEST = 60
"""Characters that are compared: no name is longer."""


def suggestion(word: object, known: Iterable[str]) -> str:
    """The known word that another one is most like, whatever the case of its letters; "" where none is near."""
    by_lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(str(word)[:LONGEST].lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[near[0]] if near else ""


def one_of(found: object, choices: Sequence[str]) -> str:
    """The values that a choice has, for a message, with the one that may have been meant."""
    near = suggestion(found, choices) if isinstance(found, str) else ""
    return " or ".join(choices) + (f"; did you mean {near!r}?" if near else "")
