"""The server put together: models, queue, interfaces, page."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from sao_onnx.errors import SaoOnnxError
from sao_onnx.serve import own
from sao_onnx.serve.adapters import elevenlabs, gary4juce, stability, vllm_omni
from sao_onnx.serve.answers import failed, json_error
from sao_onnx.serve.guard import Guard, TooLargeError, too_large
from sao_onnx.serve.jobs import Jobs
from sao_onnx.serve.metrics import Metrics
from sao_onnx.serve.models import Models
from sao_onnx.serve.openapi import document
from sao_onnx.serve.service import ClientGoneError, Service
from sao_onnx.serve.settings import Settings

GRACE = 5.0
"""Seconds that a clip may still take when the server ends."""

ADAPTERS = (elevenlabs, gary4juce, stability, vllm_omni)

PAGE = {"/": "page.html", "/page.js": "page.js", "/page.css": "page.css", "/icon.svg": "icon.svg"}
PAGE_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


def make_app(settings: Settings) -> ASGIApp:
    """The server as an ASGI application; see `made`."""
    return made(settings)[0]


def made(settings: Settings) -> tuple[ASGIApp, Jobs]:
    """The server as an ASGI application, and its queue.

    Raises:
        BundleError: A model cannot be opened.
        RequestError: It lacks the precision.
    """
    models = Models(settings)
    metrics = Metrics(list(models.bundles)) if settings.metrics else None
    jobs = Jobs(
        models.engine,
        workers=settings.jobs,
        waiting=settings.queue,
        keep_seconds=settings.keep_seconds,
        keep_bytes=settings.keep_bytes,
        idle=None if settings.unload_after is None else models.unload,
        idle_seconds=settings.unload_after or 0,
        ended=None if metrics is None else metrics.ended,
    )
    if metrics is not None:
        metrics.watch(jobs)
    service = Service(models, jobs, settings)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None, None]:
        yield
        await run_in_threadpool(jobs.close, GRACE)
        models.unload()

    async def show_document(http: HttpRequest) -> Response:
        return JSONResponse(document(models, settings))

    async def refuse_body(http: HttpRequest, error: Exception) -> Response:
        return too_large(error.most if isinstance(error, TooLargeError) else settings.limits.body)

    def show_metrics(http: HttpRequest) -> Response:
        data, media_type = (b"", "text/plain") if metrics is None else metrics.text()
        return Response(data, media_type=media_type)

    routes = [
        *own.routes(service),
        *(route for adapter in ADAPTERS for route in adapter.routes(service)),
        Route("/openapi.json", show_document, methods=["GET"]),
        *([] if metrics is None else [Route("/metrics", show_metrics, methods=["GET"])]),
        *(Route(path, _static(name), methods=["GET"]) for path, name in PAGE.items()),
    ]
    app = Starlette(
        routes=routes,
        lifespan=lifespan,
        exception_handlers={
            SaoOnnxError: failed,
            ClientGoneError: failed,
            ClientDisconnect: failed,
            TooLargeError: refuse_body,
            HTTPException: _refused,
            Exception: failed,
        },
    )
    return Guard(app, settings), jobs


def _static(name: str) -> Callable[[HttpRequest], Response]:
    """A file of the page."""
    path = Path(__file__).parent / "page" / name

    def answer(http: HttpRequest) -> Response:
        return Response(path.read_bytes(), media_type=PAGE_TYPES[path.suffix], headers={"Cache-Control": "no-cache"})

    return answer


async def _refused(http: HttpRequest, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    return json_error(error.status_code, "HttpError", str(error.detail), error.headers)
