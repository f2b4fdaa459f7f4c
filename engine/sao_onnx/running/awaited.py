"""Work that yields, for asyncio: every item is made in a thread of its own while the event loop stays free."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import AsyncIterator, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar

T = TypeVar("T")


class Awaited(AsyncIterator[T]):
    """The items of a generator, for `async for`. Each is made when it is awaited, in a thread that belongs to them alone.

    However the iteration ends, no work goes on behind its back. A task that is cancelled, or runs into a timeout, ends when the
    item that is being made is done, and with it the generator and its thread. `aclose`, also from another task, and the end
    of an `async with` block wait for the same. Where a consumer leaves the loop and holds nothing of it, nothing is being made.

    Args:
        items: Not used elsewhere; none of them is None.
    """

    def __init__(self, items: Generator[T, None, None]) -> None:
        self._items = items
        # For what a log record, or NumPy's handling of errors, shall be told of the caller.
        self._context = contextvars.copy_context()
        # Of its own: in the loop's, the streams of an application could wait for each other. It starts with the first item.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sao-onnx")
        self._begun = False
        self._end: Future[None] | None = None

    async def __anext__(self) -> T:
        """The next item. An error of the work is raised here."""
        if self._end is not None:
            raise StopAsyncIteration
        self._begun = True
        loop = asyncio.get_running_loop()
        try:
            item = await loop.run_in_executor(self._thread, self._context.run, self._next)
        except GeneratorExit:
            # The event loop is gone without having ended its tasks, and nothing can be awaited any more.
            self._abandon()
            raise
        except BaseException:
            await self.aclose()
            raise
        if item is None or self._end is not None:
            await self.aclose()
            raise StopAsyncIteration
        return item

    async def aclose(self) -> None:
        """End the work and its thread: at once between two items, otherwise when the one that is being made is done."""
        await _to_its_end(asyncio.wrap_future(self._begin_end()))
        # The thread has nothing left to do, so this waits for nothing.
        self._thread.shutdown()

    async def __aenter__(self) -> Awaited[T]:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        if self._begun:
            self._abandon()

    def _next(self) -> T | None:
        return next(self._items, None)

    def _abandon(self) -> None:
        """End the work, where nobody is left who could wait for it or hear of an error."""
        with contextlib.suppress(RuntimeError):  # The interpreter is ending, and has ended the thread.
            self._begin_end()

    def _begin_end(self) -> Future[None]:
        """Close the generator in its thread, behind what is being made there. Waits for nothing."""
        if self._end is None:
            self._end = self._thread.submit(self._items.close)
            self._thread.shutdown(wait=False)
        return self._end


async def _to_its_end(future: asyncio.Future[Any]) -> None:
    """Wait for a future. Where the task is cancelled, even several times, it is so only when the future is done."""
    cancelled = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
    future.result()
