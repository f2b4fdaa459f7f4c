"""Stages of the engine that open their sessions when first needed, and can drop them after use."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Stage(Generic[T]):
    """A value that is loaded on first use and shared among threads.

    Args:
        load: Makes the value.
        keep: Keep it after its last user has left; otherwise it is dropped, and loaded again for the next one.
    """

    def __init__(self, load: Callable[[], T], keep: bool) -> None:
        self._load = load
        self._keep = keep
        self._lock = threading.Lock()
        self._value: T | None = None
        self._users = 0

    @contextlib.contextmanager
    def use(self) -> Iterator[T]:
        """The value, loaded, for the length of a `with` block."""
        with self._lock:
            if self._value is None:
                self._value = self._load()
            value = self._value
            self._users += 1
        try:
            yield value
        finally:
            # The local name would keep the value alive while the lock's owner believes it gone.
            del value
            with self._lock:
                self._users -= 1
                if not self._users and not self._keep:
                    self._value = None

    def drop(self) -> None:
        """Let go of the value as soon as nobody uses it."""
        with self._lock:
            if not self._users:
                self._value = None
