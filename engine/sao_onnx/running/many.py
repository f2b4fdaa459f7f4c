"""Several pieces of work at the same time, their results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def in_order(work: Callable[[T], R], items: Iterable[T], jobs: int) -> Iterator[tuple[T, Callable[[], R]]]:
    """Work on items, so many at the same time.

    Only `jobs` items are begun ahead of the one that is yielded, so a consumer that stops iterating leaves the others undone.

    Args:
        work: What to do with each, in a thread.
        items: May be endless.
        jobs: At least 1.

    Yields:
        Each item, in order, with a function that returns its result or raises its error.
    """
    begun: deque[tuple[T, Future[R]]] = deque()
    with ThreadPoolExecutor(jobs) as pool:
        for item in items:
            begun.append((item, pool.submit(work, item)))
            if len(begun) == jobs:
                first, future = begun.popleft()
                future.exception()  # Waits for its end.
                yield first, future.result
        while begun:
            first, future = begun.popleft()
            future.exception()
            yield first, future.result
