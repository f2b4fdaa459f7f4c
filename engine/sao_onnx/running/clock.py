"""Where the time of a generation goes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TypeVar

from sao_onnx.clip import Timings

T = TypeVar("T")


class Clock:
    """Adds up the seconds that each stage works."""

    def __init__(self) -> None:
        self._spent: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Counts what happens within for a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._spent[stage] = self._spent.get(stage, 0.0) + time.perf_counter() - start

    def iterate(self, stage: str, items: Iterator[T]) -> Iterator[T]:
        """The items, with the time that each takes to come, and not the time until the next is asked for."""
        while True:
            with self(stage):
                item = next(items, None)
            if item is None:
                return
            yield item

    def timings(self) -> Timings:
        """What was counted so far."""
        return Timings(**self._spent)
