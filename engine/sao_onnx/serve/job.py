"""A clip that is asked for, and where it stands. Knows nothing of HTTP."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from sao_onnx.clip import Clip
from sao_onnx.request import Request, recorded_options

State = Literal["queued", "running", "done", "failed", "cancelled"]
ENDED: frozenset[State] = frozenset({"done", "failed", "cancelled"})


@dataclass(frozen=True)
class Status:
    """Where a job stands.

    Attributes:
        state: Of the job.
        position: In the queue: 1 is next; 0 when it has left the queue.
        step: Sampling steps that are done, in all windows.
        steps: Sampling steps of all windows; 0 before they are known.
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
        request: With its seed; at its end without what it started from.
        preview: Estimates of the audio are made while it is sampled.
        id: Cannot be guessed.
        created: Time of day, in seconds.
        status: Replaced whenever something changes.
        clip: When it is done.
        preview_audio: The latest estimate, float32 [channels, frames].
        ended_at: When it ended, by the monotonic clock.
        options: What was asked for, as a recipe says it.
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
    options: dict[str, Any] = field(init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _cancelled: threading.Event = field(default_factory=threading.Event)
    _watchers: set[Callable[[], None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.options = recorded_options(self.request)

    def watch(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Have a function called after every change, from any thread; what is returned ends that."""
        with self._lock:
            self._watchers.add(changed)

        def end() -> None:
            with self._lock:
                self._watchers.discard(changed)

        return end

    def change(self, **what: Any) -> None:
        """Change the status and tell those who watch. Nothing changes after the end."""
        with self._lock:
            if self.status.ended:
                return
            self.status = replace(self.status, **what)
            if self.status.ended:
                self.ended_at = time.monotonic()
                # A recording can be larger than the clip, and nobody needs it any more.
                self.request = replace(self.request, init_audio=None)
            watchers = tuple(self._watchers)
        for changed in watchers:
            changed()

    def cancel(self) -> None:
        """Ask for its end, which comes before its next step or tile."""
        self._cancelled.set()

    @property
    def cancelled(self) -> bool:
        """Its end was asked for."""
        return self._cancelled.is_set()

    @property
    def size(self) -> int:
        """Bytes that its audio takes: what it starts from, estimates, and the clip."""
        sent = self.request.init_audio
        found = sent[0].nbytes if isinstance(sent, tuple) else 0
        for made in (None if self.clip is None else self.clip.samples, self.preview_audio):
            found += 0 if made is None else made.nbytes
        return int(found)
