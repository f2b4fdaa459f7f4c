"""Variables of the environment that other libraries read while they are imported."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping


@contextlib.contextmanager
def variables_unless_set(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables of the environment for as long as the block runs.

    What the user has set to anything but blanks stays as it is. Afterwards the environment is as it was before, because it
    belongs to the whole process.

    Args:
        values: Variables and what they are set to.
    """
    before = {name: os.environ.get(name) for name in values}
    try:
        for name, value in values.items():
            if not (before[name] or "").strip():
                os.environ[name] = value
        yield
    finally:
        for name, old in before.items():
            if old is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = old
