"""What every interface of the server does: check a request, queue it, wait for it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest

from sao_onnx.clip import Clip
from sao_onnx.errors import SaoOnnxError
from sao_onnx.planning.planner import plan, uses_encoder
from sao_onnx.request import Request
from sao_onnx.runtime.memory import require_memory
from sao_onnx.serve.job import Job, Status
from sao_onnx.serve.jobs import Jobs
from sao_onnx.serve.models import Models
from sao_onnx.serve.refusals import EndingError
from sao_onnx.serve.settings import Settings


class JobFailedError(SaoOnnxError):
    """A clip could not be made.

    Attributes:
        type: Class of the error that ended it.
    """

    def __init__(self, message: str, type: str) -> None:
        super().__init__(message)
        self.type = type


class ClientGoneError(Exception):
    """The client no longer waits for its answer."""


@dataclass(frozen=True)
class Service:
    """Models and the queue before them.

    Attributes:
        models: What is offered.
        jobs: The queue.
        settings: Of the server.
    """

    models: Models
    jobs: Jobs
    settings: Settings

    async def submit(self, request: Request, model: str = "", *, preview: bool = False) -> Job:
        """Check a request and put it into the queue.

        Args:
            request: With its seed.
            model: Its name; "" for the default one.
            preview: Make estimates of the audio while it is sampled.

        Raises:
            SaoOnnxError: The model cannot do it, or there is too little memory.
            QueueFullError: No more clips can wait.
        """
        name = model or self.models.default
        # Planning resamples what was sent, so it does not run in the event loop.
        await run_in_threadpool(self._check, name, request)
        job = Job(name, request, preview)
        self.jobs.submit(job)
        return job

    def _check(self, name: str, request: Request) -> None:
        bundle = self.models.bundle(name)
        plan(bundle.manifest, request)
        engine = self.models.engine(name)
        encoder, jobs = uses_encoder(bundle.manifest, request), self.settings.jobs
        require_memory(bundle, engine.precision, tuning=engine.tuning, keep_loaded=True, encoder=encoder, jobs=jobs)

    async def clip(self, request: Request, http: HttpRequest, model: str = "") -> Clip:
        """Make a clip for a client that waits for it. If the client leaves, the work stops before its next step.

        Raises:
            SaoOnnxError: As for `submit`.
            JobFailedError: The clip could not be made.
            EndingError: It could not be made because the server is ending.
            ClientGoneError: The client left.
        """
        job = await self.submit(request, model)
        waiting = asyncio.ensure_future(ended(job))
        # Nothing has been answered yet, so nobody else listens for the client's leaving; the body has been read.
        leaving = asyncio.ensure_future(_gone(http))
        try:
            await asyncio.wait({waiting, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                raise ClientGoneError
            status = await waiting
        finally:
            self.jobs.cancel(job)
            for task in (waiting, leaving):
                task.cancel()
            self.jobs.forget(job)
        # A clip that failed by itself says why, even then.
        if status.state == "cancelled" and self.jobs.closing:
            raise EndingError
        if job.clip is None:
            raise JobFailedError(status.error or "the clip was cancelled", status.error_type or status.state)
        return job.clip


async def statuses(job: Job) -> AsyncGenerator[Status, None]:
    """The status of a job now and after changes, to its end. A slow consumer misses what lies between, never the last one."""
    loop = asyncio.get_running_loop()
    changed = asyncio.Event()

    def notify() -> None:
        with contextlib.suppress(RuntimeError):  # The loop has ended, and with it the consumer.
            loop.call_soon_threadsafe(changed.set)

    end = job.watch(notify)
    try:
        while True:
            changed.clear()
            status = job.status
            yield status
            if status.ended:
                return
            await changed.wait()
    finally:
        end()


async def ended(job: Job) -> Status:
    """Wait for the end of a job."""
    async with contextlib.aclosing(statuses(job)) as changes:
        async for _ in changes:
            pass
    return job.status


async def _gone(http: HttpRequest) -> None:
    while (await http.receive())["type"] != "http.disconnect":
        pass
