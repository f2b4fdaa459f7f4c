"""Loads several things at the same time, each in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from sao_onnx.runtime.system_memory import address_space_is_limited
from sao_onnx.warn import kept_warnings, warn

T = TypeVar("T")


def together(loads: Sequence[Callable[[], T]]) -> list[T]:
    """What the functions return, in their order. The first one runs in this thread; all do where address space is limited.

    Nothing goes on afterwards: all have ended, whatever happens. Warnings are issued in this thread.

    Raises:
        Exception: That of the first function which raised one.
    """
    if address_space_is_limited():
        return [load() for load in loads]
    first, *others = [_Load(load) for load in loads]
    threads = [thread for other in others if (thread := other.begun()) is not None]
    first.run()
    for thread in threads:
        thread.join()
    return [load.result() for load in (first, *others)]


class _Load(Generic[T]):
    """One of the functions, and what came of it."""

    def __init__(self, load: Callable[[], T]) -> None:
        self._load = load
        self._made: list[T] = []
        self._error: BaseException | None = None
        self._said: list[tuple[str, type[Warning]]] = []

    def begun(self) -> threading.Thread | None:
        """Run it in a thread; or, where none can be started, at once."""
        # No daemon: Python waits for it at its end, because a thread that comes back from ONNX Runtime later aborts it.
        thread = threading.Thread(target=self.run, name="sao-onnx-load", daemon=False)
        try:
            thread.start()
        except RuntimeError:  # Too little memory, too many threads, or Python is ending.
            self.run()
            return None
        return thread

    def run(self) -> None:
        with kept_warnings() as self._said:
            try:
                self._made = [self._load()]
            except BaseException as error:  # noqa: BLE001  `result` raises it.
                self._error = error

    def result(self) -> T:
        """What it returned, or its error; and its warnings."""
        for message, category in self._said:
            warn(message, category)
        if self._error is not None:
            raise self._error
        return self._made[0]
