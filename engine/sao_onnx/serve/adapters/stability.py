"""Stability's stable-audio-2: text to audio, audio to audio, inpainting. Forms in; bytes or JSON with base64 out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sao_onnx.request import LEAST_NOISE_LEVEL
from sao_onnx.serve.adapters.common import answering, base64_of, choice, number, seed, text, whole
from sao_onnx.serve.bodies import limited
from sao_onnx.serve.formats import MEDIA_TYPES
from sao_onnx.serve.forms import parts, recording
from sao_onnx.serve.service import Service

PREFIX = "/v2beta/audio/stable-audio-2"
RANDOM = 0
"""The seed that stands for a random one."""


def routes(service: Service) -> list[Route]:
    """The routes of this interface."""
    interface = _Stability(service)
    kinds = {"text-to-audio": interface.text, "audio-to-audio": interface.audio, "inpaint": interface.inpaint}
    return [Route(f"{PREFIX}/{name}", answering(failed, endpoint), methods=["POST"]) for name, endpoint in kinds.items()]


class _Stability:
    def __init__(self, service: Service) -> None:
        self._service = service

    async def text(self, http: HttpRequest) -> Response:
        async with parts(http, self._service.settings.limits, files=0) as form:
            return await self._answer(http, form, {})

    async def audio(self, http: HttpRequest) -> Response:
        async with parts(http, self._service.settings.limits) as form:
            strength = number(form, "strength", 0, 1)
            options = {"init_noise_level": None if strength is None else LEAST_NOISE_LEVEL + (1 - LEAST_NOISE_LEVEL) * strength}
            return await self._answer(http, form, options, recorded=True)

    async def inpaint(self, http: HttpRequest) -> Response:
        async with parts(http, self._service.settings.limits) as form:
            most = self._service.settings.limits.recording
            start, end = number(form, "mask_start", 0, most), number(form, "mask_end", 0, most)
            # By default their mask reaches from 30 s to 190 s, which no clip of a small model has.
            options = {"regenerate": None if start is None or end is None else [(start, end)]}
            return await self._answer(http, form, options, recorded=True)

    async def _answer(
        self, http: HttpRequest, form: Mapping[str, Any], own: dict[str, Any], *, recorded: bool = False
    ) -> Response:
        service = self._service
        format = choice(form, "output_format", ("mp3", "wav"), "mp3")
        options = {
            "seed": seed(form, RANDOM),
            "seconds": number(form, "duration", 0, service.settings.limits.seconds),
            "steps": whole(form, "steps", 1, service.settings.limits.steps),
            "cfg_scale": number(form, "cfg_scale", 0, 100),
            **own,
        }
        sent = await recording(form, "audio", service.settings.limits, required=True) if recorded else None
        request = limited(text(form, "prompt", required=True), options, service.settings.limits, sent)
        clip = await service.clip(request, http)
        data = await run_in_threadpool(clip.encoded, f".{format}")
        headers = {"seed": str(clip.seed), "finish-reason": "SUCCESS"}
        if "application/json" in http.headers.get("accept", ""):
            return JSONResponse({"audio": base64_of(data), "seed": clip.seed, "finish_reason": "SUCCESS"}, headers=headers)
        return Response(data, media_type=MEDIA_TYPES[format], headers=headers)


def failed(status: int, kind: str, message: str, headers: Mapping[str, str]) -> Response:
    """An error in this interface's shape."""
    return JSONResponse({"id": "", "name": kind, "errors": [message]}, status, dict(headers))
