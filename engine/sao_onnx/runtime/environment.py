"""Environment variables that other libraries read while they are imported."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping


@contextlib.contextmanager
def variables_unless_set(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables while the `with` block runs, except those that the user has set.

    A variable that holds only blanks counts as not set. After the block every variable of `values` is as it was before: the
    environment belongs to the whole process.

    Args:
        values: Names of variables, and the values to set.
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
