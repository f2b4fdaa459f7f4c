"""How fast the clips of a list are made, and when they will be done."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

RECENT = 300.0
"""Seconds from which the pace is taken: machines come and go."""

FEWEST = 3
"""Clips from which a pace can be told. The first ones have to wait for the model."""


class Pace:
    """Counts clips as they are made.

    Args:
        total: Clips that are to be made; None where that is not known.
        now: A clock, in seconds.

    Attributes:
        total: As given.
        done: Clips that are done.
    """

    def __init__(self, total: int | None, now: Callable[[], float] = time.monotonic) -> None:
        self.total, self._now = total, now
        self._made: deque[float] = deque()
        self.done = 0

    def count(self, made: bool) -> None:
        """A clip is done. One that was there before, or failed, says nothing of the pace of others."""
        self.done += 1
        if made:
            self._made.append(self._now())

    @property
    def a_minute(self) -> float | None:
        """Clips a minute of late; None while there are too few to tell."""
        now = self._now()
        while len(self._made) > FEWEST and self._made[0] < now - RECENT:
            self._made.popleft()
        if len(self._made) < FEWEST or now <= self._made[0]:
            return None
        # Until now, and not until the last clip: where none comes any longer, the pace falls.
        return 60 * (len(self._made) - 1) / (now - self._made[0])

    @property
    def left(self) -> float | None:
        """Seconds that the rest will take at this pace; None while it cannot be told."""
        pace = self.a_minute
        return None if pace is None or self.total is None else 60 * (self.total - self.done) / pace

    def __str__(self) -> str:
        """As in "12.4 clips a minute, 21 min left"; "" while it cannot be told."""
        pace, left = self.a_minute, self.left
        if pace is None:
            return ""
        told = f"{pace:.1f} clips a minute"
        return told if left is None else f"{told}, {time_left(left)}"


def time_left(seconds: float) -> str:
    """As in "50 s left", "21 min left" or "7.5 h left"."""
    if seconds < 100:
        return f"{seconds:.0f} s left"
    return f"{seconds / 60:.0f} min left" if seconds < 6000 else f"{seconds / 3600:.1f} h left"
