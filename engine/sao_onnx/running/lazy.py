"""Values that are loaded when first needed, shared among threads, and let go after use."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from sao_onnx.runtime.process_memory import return_freed_memory

T = TypeVar("T")


class Lazy(Generic[T]):
    """A value that is loaded on first use and shared among threads.

    Args:
        load: Makes the value.
        keep: Keep it when its last user has left; otherwise it is let go, and loaded again for the next one.
    """

    def __init__(self, load: Callable[[], T], keep: bool) -> None:
        self._load = load
        self._keep = keep
        self._lock = threading.Lock()
        self._value: T | None = None
        self._users = 0
        self._unload = False

    @property
    def loaded(self) -> bool:
        """Whether the value is there now."""
        with self._lock:
            return self._value is not None

    @contextlib.contextmanager
    def use(self) -> Iterator[T]:
        """The value, loaded, for the length of a `with` block."""
        with self._lock:
            if self._value is None:
                # What values before this one have left.
                return_freed_memory()
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
                if not self._users and (self._unload or not self._keep):
                    self._value, self._unload = None, False

    def unload(self) -> None:
        """Let go of the value: at once, or when its last user leaves."""
        with self._lock:
            if self._users:
                self._unload = True
            else:
                self._value = None
