"""Clients that are slow on purpose, against a server that loses its patience a hundred times as fast."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time

import h11
import httpx
import pytest
import uvicorn

from sao_onnx.serve.connections import MOST, Connection, State, most_connections
from tests.processes import GUARD

LARGE = b"x" * 64_000_000
"""More than what the system itself takes from us before a client does."""


class Impatient(Connection):
    patience = 0.2


class App:
    """Answers with the size of the body; at /large with much, at /late after many looks, at /told piece by piece."""

    def __init__(self) -> None:
        self.bodies = 0

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return
        size, more = 0, True
        while more and scope["path"] != "/refused":
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            size, more = size + len(message["body"]), message["more_body"]
        self.bodies += 1
        pieces = {"/large": [LARGE], "/late": [b"late"], "/told": [b"still here\n"] * 12}.get(scope["path"], [b"%d" % size])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for piece in pieces:
            if scope["path"] in ("/late", "/told"):
                await asyncio.sleep(3 * Impatient.patience / len(pieces))
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


@pytest.fixture(scope="module")
def server():
    """A server, where it listens, and its application."""
    app = App()
    server = uvicorn.Server(uvicorn.Config(app, http=Impatient, ws="none", log_config=None, lifespan="off"))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield server, listening.getsockname(), app
        server.should_exit = True
        thread.join(GUARD)


def until_cut(connection: socket.socket, piece: bytes) -> None:
    """Send something again and again, much more slowly than one may, until the connection is closed."""
    deadline = time.monotonic() + GUARD
    connection.settimeout(0.02)
    while True:
        assert time.monotonic() < deadline, "it is never cut"
        with contextlib.suppress(TimeoutError):
            try:
                connection.sendall(piece)
                if not connection.recv(1_000):
                    return
            except (ConnectionError, BrokenPipeError):
                return


@pytest.mark.parametrize(
    ("begin", "piece"),
    [
        (b"", b""),
        (b"POST / HTTP/1.1\r\n", b""),
        (b"POST / HTTP/1.1\r\nX: ", b"x"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n", b"x"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (b"POST /refused HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n", b"x"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nX: ", b"x"),
    ],
    ids=["nothing", "a head that stops", "a head", "a body", "a body in pieces", "a body that nobody reads", "a second head"],
)
def test_who_sends_too_slowly_is_cut(server, begin, piece):
    uvicorn_server, address, app = server
    before = app.bodies
    with socket.create_connection(address) as connection:
        connection.sendall(begin)
        until_cut(connection, piece)
        assert app.bodies - before <= 1
    left(uvicorn_server)


def left(server) -> None:
    """Wait until the server holds no connection."""
    deadline = time.monotonic() + GUARD
    while server.server_state.connections or server.server_state.tasks:
        assert time.monotonic() < deadline, "a connection is held"
        time.sleep(0.01)


def test_who_never_reads_is_cut_and_what_it_asked_for_let_go(server):
    uvicorn_server, address, app = server
    before = app.bodies
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        connection.connect(address)
        connection.sendall(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
        while app.bodies == before:
            time.sleep(0.01)
        left(uvicorn_server)
        found = 0
        with contextlib.suppress(ConnectionError):
            while data := connection.recv(1_000_000):
                found += len(data)
        assert found < len(LARGE)


def test_who_waits_is_not_cut(server):
    _, (host, port), _ = server
    with httpx.Client(base_url=f"http://{host}:{port}", timeout=GUARD) as client:
        assert client.get("/late").text == "late"
        assert client.get("/told").text == "still here\n" * 12
        assert client.get("/").text == "0"


REQUEST = object()


def state(turn=h11.DONE, request=REQUEST, received=0, emptied=0, waiting=0) -> State:
    return State(turn, request, received, emptied, waiting)


@pytest.mark.parametrize(
    ("before", "now", "slow"),
    [
        (state(), state(), False),
        (state(waiting=5_000), state(waiting=4_001), True),
        (state(waiting=5_000), state(waiting=4_000), False),
        (state(waiting=5_000), state(), False),
        (state(waiting=50), state(waiting=50, emptied=1), False),
        (state(), state(waiting=5_000), False),
        (state(h11.SEND_BODY), state(h11.SEND_BODY, received=999), True),
        (state(h11.SEND_BODY), state(h11.SEND_BODY, received=1_000), False),
        (state(h11.SEND_BODY), state(h11.DONE, received=1), False),
        (state(h11.SEND_BODY), state(h11.SEND_BODY, object(), 1), False),
        (state(h11.IDLE), state(h11.IDLE, received=9_999), True),
        (state(h11.IDLE), state(h11.IDLE, object()), False),
        (state(h11.IDLE), state(h11.SEND_BODY), False),
        (state(None), state(None), False),
    ],
)
def test_what_is_too_slow(before, now, slow):
    assert now.too_slow_since(before, 1_000) is slow


def test_there_is_an_end_to_connections(server, monkeypatch):
    uvicorn_server, address, _ = server
    monkeypatch.setattr(Impatient, "most", 3)
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.create_connection(address)) for _ in range(3)]
        deadline = time.monotonic() + GUARD
        while len(uvicorn_server.server_state.connections) < 3:
            assert time.monotonic() < deadline, "they are not taken"
            time.sleep(0.001)
            for connection in held:  # Not so slow as to be cut.
                connection.sendall(b"")
        further = stack.enter_context(socket.create_connection(address))
        further.settimeout(GUARD)
        with contextlib.suppress(ConnectionError):
            assert further.recv(1) == b""
    left(uvicorn_server)
    assert httpx.get(f"http://{address[0]}:{address[1]}/").status_code == 200


def test_connections_leave_files_for_all_else(monkeypatch):
    resource = pytest.importorskip("resource")
    for files, most in ((80, 40), (1_000_000, MOST), (resource.RLIM_INFINITY, MOST), (1, 1)):
        monkeypatch.setattr(resource, "getrlimit", lambda what, files=files: (files, files))
        assert most_connections() == most
