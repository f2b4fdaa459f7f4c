"""Connections that are looked at from time to time, so that no client holds one, and what is sent to it, without end."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from sao_onnx.runtime.usage import limit

MOST = 1000
"""Connections at a time, of all clients together."""

PATIENCE = 20.0
"""Seconds between two looks at a connection."""

SLOWEST = 10_000
"""Bytes a second that a client must send of a body, or take of an answer."""


@dataclass(frozen=True)
class State:
    """What is seen of a connection.

    Attributes:
        turn: What the client has to send, in h11's words; None where we do not read.
        request: The latest one.
        received: Bytes so far.
        emptied: How often all that was ready to be sent had been taken.
        waiting: Bytes that are ready and have not been taken.
    """

    turn: object
    request: object
    received: int
    emptied: int
    waiting: int

    def too_slow_since(self, before: State, least: float) -> bool:
        """Whether a client was too slow between two looks, at which so many bytes are expected."""
        if before.waiting and self.waiting and self.emptied == before.emptied and before.waiting - self.waiting < least:
            return True
        if self.turn is not before.turn or self.request is not before.request:
            return False
        return self.turn is h11.IDLE or (self.turn is h11.SEND_BODY and self.received - before.received < least)


def most_connections() -> int:
    """As many connections as leave half of the files that this process may open to all else."""
    files = limit("RLIMIT_NOFILE")
    return MOST if files is None else max(1, min(MOST, files // 2))


class Connection(H11Protocol):
    """A connection that is cut where its client is too slow.

    Nothing is asked of a client that waits for an answer. At two looks in a row

    - the head of a request must not be unfinished,
    - of a body, `SLOWEST` bytes for each second must have come, unless it is us who do not read,
    - and of what is ready to be sent, as many must have been taken.

    Those beyond `most` are cut at once.
    """

    patience = PATIENCE
    most = MOST

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to look."""
        super().connection_made(transport)
        self._look: asyncio.TimerHandle | None = None
        if len(self.connections) > self.most:
            transport.abort()
            return
        # Whatever has not been taken counts as waiting, and an answer's parts are made no faster than they are taken.
        transport.set_write_buffer_limits(0)
        self._received = self._emptied = 0
        self._seen = self._state()
        self._look = self.loop.call_later(self.patience, self._check)

    def connection_lost(self, exc: Exception | None) -> None:
        """End it."""
        if self._look is not None:
            self._look.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what comes."""
        self._received += len(data)
        super().data_received(data)

    def resume_writing(self) -> None:
        """Count how often all that was ready has been taken."""
        self._emptied += 1
        super().resume_writing()

    def _state(self) -> State:
        turn = None if self.flow.read_paused else self.conn.their_state
        return State(turn, self.cycle, self._received, self._emptied, self.transport.get_write_buffer_size())

    def _check(self) -> None:
        before, now = self._seen, self._state()
        if now.too_slow_since(before, self.patience * SLOWEST):
            self.transport.abort()
            return
        self._seen = now
        self._look = self.loop.call_later(self.patience, self._check)
