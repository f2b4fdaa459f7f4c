"""Several pieces of work at the same time, their results in order or as they are made."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


def many(
    work: Callable[[T], R],
    items: Iterable[T],
    jobs: int,
    *,
    in_order: bool = False,
    stop: threading.Event | None = None,
) -> Generator[tuple[T, Callable[[], R]], None, None]:
    """Work on items, so many at the same time, and hand out each result as soon as it is there, or as soon as it is its turn.

    No more than `jobs` items are taken whose results the consumer is not done with: neither waits a long source for results,
    nor is a slow consumer overrun. Ctrl-C is noticed while all of that is waited for.

    Args:
        work: What to do with each, in a thread.
        items: They are waited for in another thread, and may be endless.
        jobs: How many at the same time, at least 1.
        in_order: Hand the results out in the order of the items.
        stop: Once it is set, by whomever, no item is taken any longer, not even one that is waited for. What is begun is still
            handed out. Set when the consumer stops iterating.

    Yields:
        Each item, with a function that returns its result or raises its error.

    Raises:
        Exception: What `items` raised, after all results of those before.
    """
    stop = stop or threading.Event()
    crew = _Crew(work, items, jobs, stop)
    threading.Thread(target=crew.feed, daemon=True).start()
    handed_out = 0
    early: dict[int, tuple[T, Future[R]]] = {}
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
            index = found[0]
            early[index] = found[1:]
            turn = handed_out if in_order else index
            while turn in early:
                item, future = early.pop(turn)
                yield item, future.result
                handed_out += 1
                turn += 1
                crew.free.release()
    finally:
        stop.set()
        crew.free.release()


class _Crew(Generic[T, R]):
    """The part of `many` that is in other threads.

    Attributes:
        free: Counts the jobs that are free.
        arrived: The index of each item, it, and its result; at the end None, or what `items` raised.
    """

    def __init__(self, work: Callable[[T], R], items: Iterable[T], jobs: int, stop: threading.Event) -> None:
        self._work, self._items, self._jobs, self._stop = work, items, jobs, stop
        self.free = threading.Semaphore(jobs)
        self.arrived: queue.SimpleQueue[tuple[int, T, Future[R]] | BaseException | None] = queue.SimpleQueue()
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
            index = self._begun
            self._begun += 1
        pool.submit(self._work, item).add_done_callback(lambda future: self.arrived.put((index, item, future)))

    def stopped_after(self, handed_out: int) -> bool:
        """Whether nothing is begun any longer, and so many results are all that there are."""
        with self._lock:
            return self._stop.is_set() and self._begun == handed_out
