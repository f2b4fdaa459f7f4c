"""Our own interface under `/v1`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from sao_onnx.audio.files import encode_audio
from sao_onnx.audio.prepare import normalize
from sao_onnx.bundle.manifest import DURATION
from sao_onnx.serve.answers import audio, json_error, server_sent, wanted_bits, wanted_format
from sao_onnx.serve.bodies import Asked, asked, json_object
from sao_onnx.serve.formats import BITS, MEDIA_TYPES
from sao_onnx.serve.forms import only, parts, recording, written
from sao_onnx.serve.job import Job, Status
from sao_onnx.serve.models import Models
from sao_onnx.serve.schema import request_schema
from sao_onnx.serve.service import Service, statuses

KEEP_ALIVE = 15.0
"""Seconds without news after which a comment is sent, so that nothing between takes the connection for dead."""


def routes(service: Service) -> list[Route]:
    """The routes of our own interface."""
    own = _Own(service)
    return [
        Route("/v1/jobs", own.submit, methods=["POST"]),
        # One route, so that a refusal of other methods names both.
        Route("/v1/jobs/{id}", own.job, methods=["GET", "DELETE"]),
        Route("/v1/jobs/{id}/events", own.events, methods=["GET"]),
        Route("/v1/jobs/{id}/audio", own.audio, methods=["GET"]),
        Route("/v1/jobs/{id}/preview", own.preview, methods=["GET"]),
        Route("/v1/generate", own.generate, methods=["POST"]),
        Route("/v1/models", own.models, methods=["GET"]),
        Route("/v1/options", own.options, methods=["GET"]),
        Route("/healthz", own.health, methods=["GET"]),
        Route("/readyz", own.ready, methods=["GET"]),
    ]


class _Own:
    def __init__(self, service: Service) -> None:
        self._service = service

    async def submit(self, http: HttpRequest) -> Response:
        found = await self._asked(http)
        job = await self._service.submit(found.request, found.model, preview=found.preview)
        return JSONResponse(self._about(job), 202, {"Location": f"/v1/jobs/{job.id}"})

    async def generate(self, http: HttpRequest) -> Response:
        format = wanted_format(http)
        bits = wanted_bits(http, format)
        found = await self._asked(http)
        clip = await self._service.clip(found.request, http, found.model)
        return await audio(clip, format, http, found.model or self._service.models.default, bits)

    async def job(self, http: HttpRequest) -> Response:
        job = self._job(http)
        if job is None:
            return _unknown()
        return self._cancel(job) if http.method == "DELETE" else JSONResponse(self._about(job))

    def _cancel(self, job: Job) -> Response:
        ended = job.status.ended
        self._service.jobs.cancel(job)
        if ended:
            self._service.jobs.forget(job)
        return JSONResponse(self._about(job), 200 if job.status.ended else 202)

    async def events(self, http: HttpRequest) -> Response:
        job = self._job(http)
        if job is None:
            return _unknown()
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        if http.method == "HEAD":
            return Response(media_type="text/event-stream", headers=headers)
        return StreamingResponse(self._server_sent(job), media_type="text/event-stream", headers=headers)

    async def audio(self, http: HttpRequest) -> Response:
        format = wanted_format(http)
        bits = wanted_bits(http, format)
        job = self._job(http)
        if job is None:
            return _unknown()
        if job.clip is None:
            return json_error(409, "NotReadyError", f"the clip is {job.status.state}; its events tell when it is done")
        return await audio(job.clip, format, http, job.model, bits)

    async def preview(self, http: HttpRequest) -> Response:
        job = self._job(http)
        if job is None:
            return _unknown()
        made = job.preview_audio
        if made is None:
            return json_error(
                409,
                "NotReadyError",
                "there is no estimate now: they are made while the clip is sampled, if the job asked for preview",
            )
        rate = self._service.models.bundle(job.model).manifest.audio.sample_rate
        data = await run_in_threadpool(lambda: encode_audio(normalize(made), rate, ".wav"))
        return Response(data, media_type=MEDIA_TYPES["wav"], headers={"Cache-Control": "no-store"})

    async def models(self, http: HttpRequest) -> Response:
        models = self._service.models
        return JSONResponse({"object": "list", "data": [_model(models, name) for name in models.bundles]})

    async def options(self, http: HttpRequest) -> Response:
        schema = request_schema(list(self._service.models.bundles), self._service.settings.limits)
        return JSONResponse({"schema": schema, "formats": list(MEDIA_TYPES), "bits": BITS})

    async def health(self, http: HttpRequest) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready(self, http: HttpRequest) -> Response:
        jobs = self._service.jobs
        about = {"status": "ending" if jobs.closing else "ready", **jobs.counts()}
        return JSONResponse(about, 503 if jobs.closing else 200)

    def _job(self, http: HttpRequest) -> Job | None:
        return self._service.jobs.get(http.path_params["id"])

    async def _asked(self, http: HttpRequest) -> Asked:
        """The request of a body: JSON, or a form with the JSON as "request" and audio to start from as "audio"."""
        limits = self._service.settings.limits
        kind = http.headers.get("content-type", "").split(";")[0].strip().lower()
        if kind != "multipart/form-data":
            return asked(json_object(await http.body()), limits)
        async with parts(http, limits, files=2) as form:
            only(form, ("request", "audio"))
            fields = json_object(await written(form, "request", limits))
            return asked(fields, limits, await recording(form, "audio", limits))

    def _about(self, job: Job) -> dict[str, Any]:
        status = job.status
        about = {
            "id": job.id,
            "model": job.model,
            "prompt": job.request.prompt,
            "seed": job.request.seed,
            "options": job.options,
            "created": job.created,
            **_status(status),
            "seconds_left": round(self._service.jobs.expected_seconds(job), 2),
        }
        if job.clip is not None:
            about |= {
                "seconds": job.clip.seconds,
                "sample_rate": job.clip.sample_rate,
                "channels": len(job.clip.samples),
                "timings": vars(job.clip.timings),
                "audio": f"/v1/jobs/{job.id}/audio",
            }
        return about

    async def _server_sent(self, job: Job) -> AsyncGenerator[bytes, None]:
        number, previews = 0, 0
        async with contextlib.aclosing(statuses(job)) as changes:
            pending = asyncio.ensure_future(anext(changes, None))
            try:
                while True:
                    done, _ = await asyncio.wait({pending}, timeout=KEEP_ALIVE)
                    if not done:
                        yield b": still here\n\n"
                        continue
                    status = pending.result()
                    if status is None:
                        return
                    if status.previews > previews:
                        number, previews = number + 1, status.previews
                        yield server_sent("preview", {"url": f"/v1/jobs/{job.id}/preview", "number": previews}, number)
                    number += 1
                    yield server_sent(status.state, self._about(job) if status.ended else _status(status), number)
                    pending = asyncio.ensure_future(anext(changes, None))
            finally:
                pending.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await pending


def _status(status: Status) -> dict[str, Any]:
    about: dict[str, Any] = {
        "state": status.state,
        "position": status.position,
        "step": status.step,
        "steps": status.steps,
        "fraction": round(status.fraction, 4),
    }
    return about | ({"error": {"type": status.error_type, "message": status.error}} if status.state == "failed" else {})


def _model(models: Models, name: str) -> dict[str, Any]:
    manifest = models.bundle(name).manifest
    return {
        "id": name,
        "object": "model",
        "name": manifest.model.name,
        "window_seconds": manifest.window_seconds,
        "sample_rate": manifest.audio.sample_rate,
        "channels": manifest.audio.channels,
        "precisions": list(manifest.precisions),
        "objective": manifest.sampling.objective,
        "numbers": [
            {"id": n.id, "minimum": n.minimum, "maximum": n.maximum, "default": None if n.id == DURATION else n.default}
            for n in manifest.conditioning.numbers
        ],
        "default": name == models.default,
    }


def _unknown() -> Response:
    return json_error(404, "UnknownJobError", "there is no such job; finished ones are kept for a while only")
