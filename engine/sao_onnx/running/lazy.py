"""Values that are loaded when first needed or a little before, shared among threads, and let go after use."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from sao_onnx.forks import Lock, forks, renew_after_fork
from sao_onnx.runtime.process_memory import return_freed_memory
from sao_onnx.warn import kept_warnings, warn

T = TypeVar("T")


class Lazy(Generic[T]):
    """A value that is loaded on first use and shared among threads.

    A process that was forked loads a value of its own: a network is there with the threads that it runs on, or not at all.

    Args:
        load: Makes the value.
        keep: Keep it when its last user has left; otherwise it is let go, and loaded again for the next one.
    """

    def __init__(self, load: Callable[[], T], keep: bool) -> None:
        self._load = load
        self._keep = keep
        self._lock = Lock()
        """Held while the value is loaded, too, so that nobody loads it a second time."""
        self._value: T | None = None
        self._said: list[tuple[str, type[Warning]]] = []
        """What was warned of while the value was loaded ahead, until somebody uses it."""
        self._fresh = False
        """It was loaded ahead, and nobody has used it yet."""
        self._users = 0
        self._unload = False
        renew_after_fork(self)

    def renew(self) -> None:
        """Forget the value, and who used it in the process before."""
        self._users = 0
        self._drop()

    @property
    def loaded(self) -> bool:
        """Whether the value is there now."""
        with self._lock:
            return self._value is not None

    @contextlib.contextmanager
    def use(self) -> Iterator[T]:
        """The value, loaded, for the length of a `with` block."""
        with self._lock:
            value = self._loaded()
            self._users += 1
            begun_after = forks()
        try:
            yield value
        finally:
            # The local name would keep the value alive while the lock's owner believes it gone.
            del value
            self._leave(begun_after)

    @contextlib.contextmanager
    def ahead(self) -> Iterator[Callable[[], None]]:
        """Load the value in a thread of its own while a `with` block does something else. The block counts as a user.

        Where it cannot be loaded, nothing happens here: the next `use` tries again, and raises the error where it can be
        caught. Warnings wait for that as well.

        Yields:
            A function that waits until the value is there, or could not be loaded. The end of the block waits, too.
        """
        with self._lock:
            self._users += 1
            begun_after = forks()
        # No daemon: Python waits for it at its end, because a thread that comes back from ONNX Runtime later aborts it.
        thread = threading.Thread(target=self._load_ahead, name="sao-onnx-load", daemon=False)
        try:
            wait = _started(thread)
            try:
                yield wait
            finally:
                wait()
        finally:
            self._leave(begun_after)

    def unload(self) -> None:
        """Let go of the value: at once, or when its last user leaves."""
        with self._lock:
            if self._users:
                self._unload = True
            else:
                self._drop()

    def _loaded(self) -> T:
        if self._value is None:
            # What values before this one have left.
            return_freed_memory()
            self._value = self._load()
        elif self._fresh:
            # What was there beside it, and is gone now.
            return_freed_memory()
        self._fresh = False
        said, self._said = self._said, []
        try:
            for message, category in said:
                warn(message, category)
        except Warning:
            # Made an error by a filter, which it would have been in place of the value.
            self._drop()
            raise
        return self._value

    def _load_ahead(self) -> None:
        with self._lock:
            if self._value is not None:
                return
            with kept_warnings() as said:
                try:
                    return_freed_memory()
                    self._value = self._load()
                    self._said, self._fresh = said, True
                except BaseException:  # noqa: BLE001  Whoever uses the value meets it, where it can be raised.
                    self._drop()

    def _leave(self, begun_after: int) -> None:
        with self._lock:
            if begun_after != forks():
                return  # It was a user in the process before.
            self._users -= 1
            if not self._users and (self._unload or not self._keep):
                self._drop()

    def _drop(self) -> None:
        self._value, self._said, self._fresh, self._unload = None, [], False, False


def _started(thread: threading.Thread) -> Callable[[], None]:
    """Start a thread. Returns what waits for it; where no thread can be started, there is nothing to wait for."""
    try:
        thread.start()
    except RuntimeError:  # Too little memory, too many threads, or Python is ending.
        return lambda: None
    return thread.join
