"""A queue of clips: a bounded number wait, a few are made at a time, and the finished ones are kept for a while.

Knows nothing of HTTP. All of it may be called from any thread.
"""

from __future__ import annotations

import heapq
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from typing import Any, Protocol

from sao_onnx.errors import SaoOnnxError
from sao_onnx.events import Conditioned, Event, Finished, Sampled
from sao_onnx.request import Request
from sao_onnx.serve.job import Job
from sao_onnx.serve.refusals import EndingError, QueueFullError

logger = logging.getLogger(__name__)

GUESSED_SECONDS = 10.0
"""How long a clip takes, before one has been measured."""

WELL_BEGUN = 0.2
"""Fraction of a clip after which its own pace says more than the clips before."""

PREVIEW_SECONDS = 2.0

LOOK = 5.0
"""Most seconds between two looks at what was kept for long enough."""


class Generating(Protocol):
    """What a job needs of an engine."""

    def stream(self, prompt: Request) -> Generator[Event, None, None]:
        """The events of a clip."""

    def decode(self, latents: Any, seconds: float | None = None) -> Any:
        """Audio of latents."""


class Jobs:
    """Makes clips in the order in which they were asked for.

    Args:
        engine: The engine of a model by its name.
        workers: Clips at the same time.
        waiting: Clips that may wait.
        keep_seconds: How long finished clips are kept.
        keep_bytes: How much all finished clips may take; the oldest go first. And how much the recordings that wait may take.
        idle: Called after `idle_seconds` without work, once; None for never.
        idle_seconds: See there.
        ended: Called with the model of every clip that was begun, the state in which it ended, and the seconds that it took.
    """

    def __init__(
        self,
        engine: Callable[[str], Generating],
        *,
        workers: int = 1,
        waiting: int = 16,
        keep_seconds: float = 600,
        keep_bytes: int = 256_000_000,
        idle: Callable[[], None] | None = None,
        idle_seconds: float = 300,
        ended: Callable[[str, str, float], None] | None = None,
    ) -> None:
        self._engine = engine
        self._waiting = waiting
        self._keep_seconds, self._keep_bytes = keep_seconds, keep_bytes
        self._idle, self._idle_seconds = idle, idle_seconds
        self._ended = ended
        self._queue: deque[Job] = deque()
        self._running: dict[Job, float] = {}
        self._worked = time.monotonic()
        self._resting = False
        self._all: dict[str, Job] = {}
        self._changed = threading.Condition()
        self._closing = False
        self._measured: float | None = None
        self._threads = [threading.Thread(target=self._work, name=f"clips-{i}", daemon=True) for i in range(workers)]
        for thread in self._threads:
            thread.start()

    def submit(self, job: Job) -> None:
        """Put a job at the end of the queue.

        Raises:
            QueueFullError: As many wait as may.
            EndingError: The queue is closed.
        """
        with self._changed:
            if self._closing:
                raise EndingError
            if leave := self._too_many(job):
                raise QueueFullError(len(self._queue), self._until_left(leave))
            self._forget()
            self._all[job.id] = job
            self._queue.append(job)
            job.change(position=len(self._queue))
            self._changed.notify()

    def get(self, id: str) -> Job | None:
        """A job that is waiting, being made, or kept; None for any other."""
        with self._changed:
            self._forget()
            return self._all.get(id)

    def cancel(self, job: Job) -> None:
        """End a job: at once if it waits, before its next step or tile if it is being made."""
        with self._changed:
            job.cancel()
            waited = job in self._queue
            if waited:
                self._queue.remove(job)
                self._number()
        if waited:
            job.change(state="cancelled", position=0)

    def forget(self, job: Job) -> None:
        """Drop a finished job and its clip now."""
        with self._changed:
            self._all.pop(job.id, None)

    def counts(self) -> dict[str, int]:
        """How many jobs wait, are made, and are kept."""
        with self._changed:
            self._forget()
            ended = sum(job.status.ended for job in self._all.values())
            return {"queued": len(self._queue), "running": len(self._running), "kept": ended}

    def expected_seconds(self, job: Job) -> float:
        """Until a job is done, by what the clips before it took."""
        with self._changed:
            if job.status.ended:
                return 0.0
            if job in self._running:
                return self._left(job)
            before = self._queue.index(job) + 1 if job in self._queue else 1
            return self._until_left(before) + self._took

    def close(self, grace: float) -> None:
        """Take no more jobs, cancel those that wait, and give the others some seconds to end before they are cancelled."""
        with self._changed:
            self._closing = True
            waiting, running = list(self._queue), list(self._running)
            self._queue.clear()
            self._changed.notify_all()
        for job in waiting:
            job.change(state="cancelled", position=0)
        end = time.monotonic() + grace
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        for job in running:
            job.cancel()
        for thread in self._threads:
            thread.join(grace)

    @property
    def threads(self) -> tuple[threading.Thread, ...]:
        """In which clips are made. One may outlive `close`, in a step that takes longer than it waits."""
        return tuple(self._threads)

    @property
    def closing(self) -> bool:
        """No more jobs are taken."""
        return self._closing

    @property
    def _took(self) -> float:
        """Seconds that a clip takes."""
        return GUESSED_SECONDS if self._measured is None else self._measured

    def _too_many(self, job: Job) -> int:
        """How many must leave the queue before there is a place for a job; 0 if there is one."""
        # A job that a free worker takes at once does not wait.
        free = len(self._threads) - len(self._running)
        leave = max(0, len(self._queue) - self._waiting - free + 1)
        sizes = [other.size for other in self._queue]
        held = sum(sizes[leave:])
        while held and held + job.size > self._keep_bytes:
            held -= sizes[leave]
            leave += 1
        return leave

    def _until_left(self, count: int) -> float:
        """Seconds until so many have probably left the queue: each with the end of a clip, whose worker takes it."""
        ends = [self._left(job) for job in self._running]
        ends += [0.0] * (len(self._threads) - len(ends))
        heapq.heapify(ends)
        for _ in range(count - 1):
            heapq.heapreplace(ends, ends[0] + self._took)
        return ends[0]

    def _left(self, job: Job) -> float:
        """Seconds until a running clip is probably done."""
        elapsed, fraction = time.monotonic() - self._running[job], job.status.fraction
        # One that takes longer than those before has no other measure than its own pace.
        if fraction > WELL_BEGUN or (fraction and elapsed > self._took):
            return elapsed / fraction * (1 - fraction)
        return max(self._took - elapsed, 0.0)

    def _number(self) -> None:
        for position, job in enumerate(self._queue, start=1):
            job.change(position=position)

    def _forget(self) -> None:
        """Drop what was kept for long enough, or takes too much."""
        ended = sorted((job for job in self._all.values() if job.status.ended), key=lambda job: job.ended_at)
        size = sum(job.size for job in ended)
        now = time.monotonic()
        for job in ended:
            if now - job.ended_at > self._keep_seconds or size > self._keep_bytes:
                size -= job.size
                del self._all[job.id]

    def _next(self) -> Job | None:
        """The job that is made next, waited for; None when the queue is closed."""
        with self._changed:
            while not self._queue and not self._closing:
                self._rest()
                self._changed.wait(self._pause())
                self._forget()
            if self._closing:
                return None
            job = self._queue.popleft()
            self._running[job] = time.monotonic()
            self._resting = False
            self._number()
        return job

    def _rest(self) -> None:
        """Tell once that there has been no work for a while."""
        if self._idle is None or self._resting or self._running or time.monotonic() - self._worked < self._idle_seconds:
            return
        self._resting = True
        try:
            self._idle()
        except Exception:
            logger.exception("memory was not given back")

    def _pause(self) -> float | None:
        """Seconds until there may be something to do beside clips; None where there is nothing."""
        pauses = [LOOK] if self._all else []
        if self._idle is not None and not self._resting:
            pauses.append(max(0.0, self._worked + self._idle_seconds - time.monotonic()))
        # While another worker makes a clip, the time of rest begins anew with its end.
        return max(min(pauses), 0.001 if not self._running else 1.0) if pauses else None

    def _work(self) -> None:
        while (job := self._next()) is not None:
            job.change(state="running", position=0)
            end = self._end_of(job)
            with self._changed:
                self._worked = time.monotonic()
                took = self._worked - self._running.pop(job)
                if end["state"] == "done":
                    # What the latest clips took counts most: lengths and steps differ.
                    self._measured = took if self._measured is None else (self._measured + took) / 2
            # Who hears of the end finds the worker free, and the clip counted.
            if self._ended is not None:
                self._ended(job.model, end["state"], took)
            job.change(**end)

    def _end_of(self, job: Job) -> dict[str, Any]:
        """Make a clip; the last change of its status."""
        try:
            return self._make(job)
        except SaoOnnxError as error:
            return {"state": "failed", "error": str(error), "error_type": type(error).__name__}
        except BaseException as error:
            logger.exception("a clip failed")
            return {
                "state": "failed",
                "error": "the server failed to make this clip",
                "error_type": type(error).__name__,
            }

    def _make(self, job: Job) -> dict[str, Any]:
        if job.cancelled:
            return {"state": "cancelled"}
        engine = self._engine(job.model)
        events = engine.stream(job.request)
        try:
            for event in events:
                if job.cancelled:
                    return {"state": "cancelled"}
                if isinstance(event, Finished):
                    job.clip, job.preview_audio = event.clip, None
                    return {"state": "done", "fraction": 1.0}
                self._report(job, event, engine)
            raise RuntimeError("a clip ended without its last event")
        finally:
            events.close()

    def _report(self, job: Job, event: Event, engine: Generating) -> None:
        done = job.status.step
        match event:
            case Conditioned():
                # All windows together, so that steps never go backwards.
                job.change(steps=done + event.steps * (event.windows - event.window), fraction=event.fraction)
            case Sampled():
                # After the first step there is little to hear, and after the last one there is the clip; what comes after the
                # first window does not change the beginning.
                if job.preview and done == event.index and 1 <= done < event.steps - 1:
                    job.preview_audio = engine.decode(event.denoised, PREVIEW_SECONDS)
                    job.change(previews=job.status.previews + 1)
                job.change(step=done + 1, fraction=event.fraction)
            case _:
                job.change(fraction=event.fraction)
