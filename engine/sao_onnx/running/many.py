"""Several pieces of work at the same time, their results in order or as they are made."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


def in_order(work: Callable[[T], R], items: Iterable[T], jobs: int) -> Iterator[tuple[T, Callable[[], R]]]:
    """Work on items, so many at the same time.

    A consumer that stops iterating leaves the items undone that are not begun.

    Args:
        work: What to do with each, in a thread.
        items: May be endless.
        jobs: How many at the same time, at least 1. As many are begun and not yet yielded.

    Yields:
        Each item, in order, with a function that returns its result or raises its error.
    """
    begun: deque[tuple[T, Future[R]]] = deque()
    pool = ThreadPoolExecutor(jobs)
    try:
        for item in items:
            begun.append((item, pool.submit(work, item)))
            if len(begun) >= jobs:
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


def as_made(
    work: Callable[[T], R], items: Iterable[T], jobs: int, stop: threading.Event
) -> Generator[tuple[T, Callable[[], R]], None, None]:
    """Work on items, so many at the same time, and hand out each result as soon as it is there.

    No more than `jobs` items are taken whose results the consumer is not done with: neither waits a long source for results,
    nor is a slow consumer overrun. Ctrl-C is noticed while all of that is waited for.

    Args:
        work: What to do with each, in a thread.
        items: They are waited for in another thread, and may be endless.
        jobs: How many at the same time, at least 1.
        stop: Once it is set, by whomever, no item is taken any longer, not even one that is waited for. What is begun is still
            handed out. Set when the consumer stops iterating.

    Yields:
        Each item, with a function that returns its result or raises its error.

    Raises:
        Exception: What `items` raised, after all results of those before.
    """
    crew = _Crew(work, items, jobs, stop)
    threading.Thread(target=crew.feed, daemon=True).start()
    handed_out = 0
    try:
        while not crew.stopped_after(handed_out):
            try:
                # With a timeout: for `stop`, and because a wait without one does not notice Ctrl-C on Windows.
                found = crew.arrived.get(timeout=0.2)
            except queue.Empty:
                continue
            if found is None:
                return
            if isinstance(found, BaseException):
                raise found
            item, future = found
            yield item, future.result
            handed_out += 1
            crew.free.release()
    finally:
        stop.set()
        crew.free.release()


class _Crew(Generic[T, R]):
    """The part of `as_made` that is in other threads.

    Attributes:
        free: Counts the jobs that are free.
        arrived: Each item with its result; at the end None, or what `items` raised.
    """

    def __init__(self, work: Callable[[T], R], items: Iterable[T], jobs: int, stop: threading.Event) -> None:
        self._work, self._items, self._jobs, self._stop = work, items, jobs, stop
        self.free = threading.Semaphore(jobs)
        self.arrived: queue.SimpleQueue[tuple[T, Future[R]] | BaseException | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._begun = 0

    def feed(self) -> None:
        """Begin the items one after the other."""
        end = None
        with ThreadPoolExecutor(self._jobs) as pool:
            try:
                source = iter(self._items)
                while self.free.acquire() and not self._stop.is_set():
                    self._begin(pool, next(source))
            except StopIteration:
                pass
            except BaseException as error:  # noqa: BLE001  Whatever it is, the consumer raises it.
                end = error
        self.arrived.put(end)

    def _begin(self, pool: ThreadPoolExecutor, item: T) -> None:
        with self._lock:
            if self._stop.is_set():
                return
            self._begun += 1
        pool.submit(self._work, item).add_done_callback(lambda future: self.arrived.put((item, future)))

    def stopped_after(self, handed_out: int) -> bool:
        """Whether nothing is begun any longer, and so many results are all that there are."""
        with self._lock:
            return self._stop.is_set() and self._begun == handed_out
