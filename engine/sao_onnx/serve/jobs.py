"""A queue of clips: a bounded number wait, a few are made at a time, and the finished ones are kept for a while.

Knows nothing of HTTP. All of it may be called from any thread.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from sao_onnx.clip import Clip
from sao_onnx.errors import SaoOnnxError
from sao_onnx.events import Event, Finished, Sampled
from sao_onnx.request import Request

logger = logging.getLogger(__name__)

State = Literal["queued", "running", "done", "failed", "cancelled"]
ENDED: frozenset[State] = frozenset({"done", "failed", "cancelled"})

GUESSED_SECONDS = 10.0
"""How long a clip takes, before one has been measured."""

PREVIEW_SECONDS = 2.0


class QueueFullError(SaoOnnxError):
    """No more clips can wait.

    Attributes:
        retry_after: Seconds until one of those before has probably been made.
    """

    def __init__(self, waiting: int, retry_after: float) -> None:
        super().__init__(f"{waiting} clips are waiting, and no more can; try again in {retry_after:.0f} s")
        self.retry_after = retry_after


class Generating(Protocol):
    """What a job needs of an engine."""

    def stream(self, prompt: Request) -> Generator[Event, None, None]:
        """The events of a clip."""

    def decode(self, latents: Any, seconds: float | None = None) -> Any:
        """Audio of latents."""


@dataclass(frozen=True)
class Status:
    """Where a job stands.

    Attributes:
        state: Of the job.
        position: In the queue: 1 is next; 0 when it has left the queue.
        step: Sampling steps that are done, in the present window.
        steps: Sampling steps of a window; 0 before they are known.
        fraction: Of the expected time of the clip, 0 to 1.
        previews: How many estimates of the audio have been made.
        error: What failed.
        error_type: Class of the error.
    """

    state: State = "queued"
    position: int = 0
    step: int = 0
    steps: int = 0
    fraction: float = 0.0
    previews: int = 0
    error: str = ""
    error_type: str = ""

    @property
    def ended(self) -> bool:
        """Nothing more will change."""
        return self.state in ENDED


@dataclass(eq=False)
class Job:
    """A clip that is asked for.

    Attributes:
        model: Name of the model.
        request: With its seed.
        preview: Estimates of the audio are made while it is sampled.
        id: Cannot be guessed.
        created: Time of day, in seconds.
        status: Replaced whenever something changes.
        clip: When it is done.
        preview_audio: The latest estimate, float32 [channels, frames].
    """

    model: str
    request: Request
    preview: bool = False
    id: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    created: float = field(default_factory=time.time)
    status: Status = field(default_factory=Status)
    clip: Clip | None = None
    preview_audio: Any = None
    ended_at: float = 0.0
    _cancelled: threading.Event = field(default_factory=threading.Event)
    _watchers: set[Callable[[], None]] = field(default_factory=set)

    def watch(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Have a function called after every change, from any thread; what is returned ends that."""
        self._watchers.add(changed)
        return lambda: self._watchers.discard(changed)

    def change(self, **what: Any) -> None:
        """Change the status and tell those who watch. Nothing changes after the end."""
        if self.status.ended:
            return
        self.status = replace(self.status, **what)
        if self.status.ended:
            self.ended_at = time.monotonic()
        for changed in tuple(self._watchers):
            changed()

    @property
    def size(self) -> int:
        """Bytes that its audio takes."""
        clip = 0 if self.clip is None else int(self.clip.samples.nbytes)
        return clip + (0 if self.preview_audio is None else int(self.preview_audio.nbytes))


class Jobs:
    """Makes clips in the order in which they were asked for.

    Args:
        engine: The engine of a model by its name.
        workers: Clips at the same time.
        waiting: Clips that may wait.
        keep_seconds: How long finished clips are kept.
        keep_bytes: How much all finished clips may take; the oldest go first.
        idle: Called after `idle_seconds` without work, once; None for never.
        idle_seconds: See there.
        ended: Called with every clip that was begun, when it has ended, and the seconds that it took.
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
        ended: Callable[[Job, float], None] | None = None,
    ) -> None:
        self._engine = engine
        self._waiting = waiting
        self._keep_seconds, self._keep_bytes = keep_seconds, keep_bytes
        self._idle, self._idle_seconds = idle, idle_seconds
        self._ended = ended
        self._queue: deque[Job] = deque()
        self._running: dict[Job, float] = {}
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
        """
        with self._changed:
            # A job that a free worker takes at once does not wait.
            free = len(self._threads) - len(self._running)
            if self._closing or len(self._queue) >= self._waiting + free:
                raise QueueFullError(len(self._queue), self._until_next())
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
            job._cancelled.set()
            if job in self._queue:
                self._queue.remove(job)
                self._number()
                waited = True
            else:
                waited = False
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
                return self._took * (1 - job.status.fraction)
            before = self._queue.index(job) + 1 if job in self._queue else 1
            return self._until_next() + self._took * -(-before // len(self._threads))

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
            job._cancelled.set()
        for thread in self._threads:
            thread.join(grace)

    @property
    def _took(self) -> float:
        """Seconds that a clip takes."""
        return GUESSED_SECONDS if self._measured is None else self._measured

    def _until_next(self) -> float:
        """Seconds until the first of the running clips is probably done."""
        return min((self._took * (1 - job.status.fraction) for job in self._running), default=0.0)

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
        idle = self._idle is not None
        with self._changed:
            while not self._queue and not self._closing:
                in_time = self._changed.wait(self._idle_seconds if idle else None)
                if not in_time and idle and not self._running and not self._queue and self._idle is not None:
                    idle = False
                    self._idle()
            if self._closing:
                return None
            job = self._queue.popleft()
            self._running[job] = time.monotonic()
            self._number()
        return job

    def _work(self) -> None:
        while (job := self._next()) is not None:
            began = time.monotonic()
            job.change(state="running", position=0)
            try:
                self._make(job)
            except SaoOnnxError as error:
                job.change(state="failed", error=str(error), error_type=type(error).__name__)
            except BaseException as error:
                logger.exception("a clip failed")
                job.change(state="failed", error="the server failed to make this clip", error_type=type(error).__name__)
            finally:
                took = time.monotonic() - began
                with self._changed:
                    self._running.pop(job, None)
                    if job.status.state == "done":
                        # What the latest clips took counts most: lengths and steps differ.
                        self._measured = took if self._measured is None else (self._measured + took) / 2
                if self._ended is not None:
                    self._ended(job, took)

    def _make(self, job: Job) -> None:
        engine = self._engine(job.model)
        events = engine.stream(job.request)
        try:
            for event in events:
                if job._cancelled.is_set():
                    job.change(state="cancelled")
                    return
                if isinstance(event, Finished):
                    job.clip, job.preview_audio = event.clip, None
                    job.change(state="done", fraction=1.0)
                    return
                self._report(job, event, engine)
        finally:
            events.close()

    def _report(self, job: Job, event: Event, engine: Generating) -> None:
        if isinstance(event, Sampled):
            # After the first step there is little to hear, and after the last one there is the clip.
            if job.preview and 1 <= event.index < event.steps - 1:
                job.preview_audio = engine.decode(event.denoised, PREVIEW_SECONDS)
                job.change(previews=job.status.previews + 1)
            job.change(step=event.index + 1, steps=event.steps, fraction=event.fraction)
        else:
            job.change(fraction=event.fraction)
