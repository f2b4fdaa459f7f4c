"""Measures how long each stage of a generation works."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TypeVar

from sao_onnx.clip import Timings

T = TypeVar("T")


class Clock:
    """Adds up the seconds of each stage."""

    def __init__(self) -> None:
        self._spent: dict[str, float] = {}
        self.last = 0.0
        """Seconds of what was counted last."""

    @contextlib.contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Count the time of a `with` block for a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.last = time.perf_counter() - start
            self._spent[stage] = self._spent.get(stage, 0.0) + self.last

    def iterate(self, stage: str, items: Iterator[T]) -> Iterator[T]:
        """Yield the items, and count the time that each takes to be made, but not the time that the consumer takes."""
        while True:
            with self(stage):
                item = next(items, None)
            if item is None:
                return
            yield item

    def timings(self) -> Timings:
        """The seconds of each stage so far."""
        return Timings(**self._spent)
