"""vLLM-Omni's `POST /v1/audio/generate`."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sao_onnx.serve.adapters.common import answering, choice, number, seed, text, whole
from sao_onnx.serve.answers import audio
from sao_onnx.serve.bodies import json_object, limited
from sao_onnx.serve.formats import MEDIA_TYPES
from sao_onnx.serve.service import Service

FORMATS = ("wav", "flac", "mp3", "opus", "ogg")


def routes(service: Service) -> list[Route]:
    """The route of this interface."""

    async def generate(http: HttpRequest) -> Response:
        fields = json_object(await http.body())
        limits = service.settings.limits
        format = choice(fields, "response_format", FORMATS, "wav")
        start = number(fields, "audio_start", 0, limits.seconds)
        options = {
            "seed": seed(fields),
            "seconds": number(fields, "audio_length", 0, limits.seconds),
            "negative_prompt": text(fields, "negative_prompt"),
            "cfg_scale": number(fields, "guidance_scale", 0, 100),
            "steps": whole(fields, "num_inference_steps", 1, limits.steps),
            "numbers": {"seconds_start": start} if start else None,
        }
        request = limited(text(fields, "input", required=True), options, limits)
        model = text(fields, "model") or ""
        clip = await service.clip(request, http, model)
        return await audio(clip, format if format in MEDIA_TYPES else "wav", http, model or service.models.default)

    return [Route("/v1/audio/generate", answering(failed, generate), methods=["POST"])]


def failed(status: int, kind: str, message: str, headers: Mapping[str, str]) -> Response:
    """An error in this interface's shape, which is OpenAI's."""
    return JSONResponse({"error": {"message": message, "type": kind, "param": None, "code": status}}, status, dict(headers))
