"""Several pieces of work at the same time, their results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def in_order(
    work: Callable[[T], R], items: Iterable[T], jobs: int, ahead: int | None = None
) -> Iterator[tuple[T, Callable[[], R]]]:
    """Work on items, so many at the same time.

    A consumer that stops iterating leaves the items undone that are not begun.

    Args:
        work: What to do with each, in a thread.
        items: May be endless.
        jobs: How many at the same time, at least 1.
        ahead: The most items that are begun or waiting and not yet yielded; by default `jobs`. More keep all threads busy while
            one item takes long; their results are held in memory.

    Yields:
        Each item, in order, with a function that returns its result or raises its error.
    """
    begun: deque[tuple[T, Future[R]]] = deque()
    pool = ThreadPoolExecutor(jobs)
    try:
        for item in items:
            begun.append((item, pool.submit(work, item)))
            if len(begun) >= (ahead or jobs):
                first, future = begun.popleft()
                future.exception()  # Waits for its end.
                yield first, future.result
        while begun:
            first, future = begun.popleft()
            future.exception()
            yield first, future.result
    finally:
        # Without waiting: a generator that nobody holds any longer can end in one of its own threads.
        pool.shutdown(wait=False, cancel_futures=True)
