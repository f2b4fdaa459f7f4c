"""`sao-onnx serve`: sounds over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from sao_onnx.cli import serve_options as s
from sao_onnx.cli.signals import PATIENCE, end_interrupted, leave
from sao_onnx.cli.terminal import note

if TYPE_CHECKING:
    from types import FrameType

    from sao_onnx.serve.settings import Settings

BACKLOG = 128
"""Connections that wait to be accepted."""
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


def serve(
    model: s.Model = None,
    host: s.Host = "127.0.0.1",
    port: s.Port = 8005,
    queue: s.Queue = 16,
    jobs: s.Jobs = 1,
    threads: s.Threads = None,
    precision: s.Precision = None,
    key_file: s.KeyFile = None,
    allow_origin: s.AllowOrigin = None,
    allow_host: s.AllowHost = None,
    unload_after: s.UnloadAfter = 600,
    keep: s.Keep = 600,
    max_seconds: s.MaxSeconds = 120,
    max_steps: s.MaxSteps = 200,
    metrics: s.Metrics = False,
    insecure: s.Insecure = False,
) -> None:
    """Serve sounds over HTTP, with a page at /."""
    from sao_onnx.errors import MissingExtraError
    from sao_onnx.serve.settings import Limits, Settings

    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("serving", "starlette and uvicorn", "serve") from error
    key = "" if key_file is None else _key(key_file)
    local = host in LOOPBACK or host == "::1"
    if not local and not key and not insecure:
        raise typer.BadParameter(f"{host} can be reached by other machines; give --key-file FILE, or --insecure")
    settings = Settings(
        models=tuple(model or ()),
        precision=precision,
        threads=threads,
        jobs=jobs,
        queue=queue,
        key=key,
        hosts=hosts(local, bool(key), tuple(allow_host or ())),
        addresses=not local,
        origins=tuple(map(_origin, allow_origin or ())),
        unload_after=unload_after or None,
        keep_seconds=keep,
        metrics=metrics,
        limits=Limits(seconds=max_seconds, steps=max_steps),
    )
    _run(settings, host, port)


def hosts(local: bool, key: bool, allowed: tuple[str, ...]) -> tuple[str, ...]:
    """Names under which the server may be called; none for any."""
    import platform

    names = (*LOOPBACK, *(name.lower() for name in allowed))
    if local or allowed:
        return names
    # A page that has another name of its own point here has no key. Without one, only this machine's names are known.
    name = platform.node().lower()
    return () if key else (*names, name, f"{name}.local")


def _origin(text: str) -> str:
    """An origin as browsers write it."""
    import re

    found = re.fullmatch(r"(https?)://([^/\s?#@]+)/?", text.strip().lower())
    if found is None:
        raise typer.BadParameter(
            f"{text!r} is no origin; expected one such as https://example.org", param_hint="--allow-origin"
        )
    scheme, host = found.groups()
    return f"{scheme}://{host.removesuffix({'http': ':80', 'https': ':443'}[scheme])}"


def _key(path: Path) -> str:
    from sao_onnx.errors import RequestError
    from sao_onnx.reading import read_small

    try:
        key = read_small(path, 4_096).decode("ascii").strip()
    except FileNotFoundError as error:
        raise RequestError(f"{path} cannot be read as a key: {error}") from error
    except UnicodeDecodeError:
        raise RequestError(f"{path} holds other letters than ASCII, which no header can carry; expected a key") from None
    if not key:
        raise RequestError(f"{path} is empty, expected a key")
    if not key.isprintable():
        raise RequestError(f"{path} holds several lines or control characters, expected a key in one line")
    return key


def _run(settings: Settings, host: str, port: int) -> None:
    import errno
    import socket
    import sys
    import threading
    import time
    import warnings

    import uvicorn

    from sao_onnx.errors import SaoOnnxError
    from sao_onnx.serve.app import GRACE, made
    from sao_onnx.serve.connections import Connection, most_connections
    from sao_onnx.stages.tokenizer import PromptWarning

    # It quotes the prompt, which has no place in a log.
    warnings.simplefilter("ignore", PromptWarning)
    app, jobs = made(settings)
    Connection.most = most_connections()
    config = uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        proxy_headers=False,
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=round(2 * GRACE + 2),
    )

    class Server(uvicorn.Server):
        """Ends in order at a signal, which is no failure, and its clips at once, because connections wait for them.

        Another signal ends it without waiting; not one that comes with the first, as some programs send them in pairs.
        """

        heard = 0.0

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            if not self.should_exit:
                self.should_exit, self.heard = True, time.monotonic()
            elif time.monotonic() > self.heard + PATIENCE:
                end_interrupted()

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            threading.Thread(target=jobs.close, args=(GRACE,), daemon=True).start()
            await super().shutdown(sockets)

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.socket(family)
        if sys.platform != "win32":  # There it would let two servers share a port.
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host.strip("[]"), port))
        listening.listen(BACKLOG)
    except OSError as error:
        remedy = "an address of this machine as --host" if error.errno == errno.EADDRNOTAVAIL else "another --port"
        raise SaoOnnxError(f"{host}:{port} cannot be listened on: {error.strerror or error}; choose {remedy}") from error
    leave(jobs.threads)
    with listening:
        shown = f"[{host.strip('[]')}]" if ":" in host else host
        note(f"http://{shown}:{listening.getsockname()[1]}  ({', '.join(settings.models) or 'sao-tiny'})")
        Server(config).run(sockets=[listening])
