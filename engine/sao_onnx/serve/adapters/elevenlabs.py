"""ElevenLabs' sound effects: `POST /v1/sound-generation`.

Their `prompt_influence` of 0 to 1 has no counterpart: above its default it turns guidance on, at twice the work.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sao_onnx.errors import RequestError
from sao_onnx.option import shown
from sao_onnx.serve.adapters.common import answering, number, seed, text, whole
from sao_onnx.serve.bodies import json_object, limited
from sao_onnx.serve.encodings import Encoding, encode
from sao_onnx.serve.service import Service

DEFAULT_FORMAT = "mp3_44100_128"
RATES = {
    "mp3": (22_050, 24_000, 44_100),
    "opus": (48_000,),
    "pcm": (8_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000),
    "wav": (8_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000),
    "ulaw": (8_000,),
    "alaw": (8_000,),
}
KILOBITS = {"mp3": (32, 48, 64, 96, 128, 192), "opus": (32, 64, 96, 128, 192)}

NEUTRAL_INFLUENCE = 0.3
"""The interface's default."""
STRONGEST_GUIDANCE = 4.0


def routes(service: Service) -> list[Route]:
    """The route of this interface."""

    async def generate(http: HttpRequest) -> Response:
        encoding = output_format(http.query_params.get("output_format", DEFAULT_FORMAT))
        fields = json_object(await http.body())
        prompt = text(fields, "text", required=True)
        # Loops of any length, and text that is longer than the model reads, are not refused by their service.
        seconds = number(fields, "duration_seconds", 0.5, 30)
        influence = number(fields, "prompt_influence", 0, 1)
        options = {
            "seed": seed(fields),
            "seconds": seconds,
            "steps": whole(fields, "steps", 1, service.settings.limits.steps),
            "cfg_scale": guidance(influence),
            "loop": flag(fields.get("loop")) or None,
        }
        model = text(fields, "model_id") or ""
        known = model if model in service.models.bundles else ""
        clip = await service.clip(limited(prompt, options, service.settings.limits), http, known)
        data = await run_in_threadpool(encode, clip, encoding)
        return Response(data, media_type=encoding.media_type, headers={"X-Sao-Seed": str(clip.seed)})

    return [Route("/v1/sound-generation", answering(failed, generate), methods=["POST"])]


def output_format(name: str) -> Encoding:
    """An encoding by the interface's name for it: codec, rate and, where there is a choice, kilobits a second.

    Raises:
        RequestError: There is no such encoding.
    """
    match = re.fullmatch(r"(mp3|opus|pcm|wav|ulaw|alaw)_(\d{4,5})(?:_(\d{2,3}))?", name)
    if match:
        codec, rate, kilobits = match[1], int(match[2]), int(match[3] or 0)
        if rate in RATES[codec] and (kilobits in KILOBITS[codec] if codec in KILOBITS else not match[3]):
            return Encoding(codec, rate, kilobits)
    raise RequestError(f"output_format is {shown(name)}, expected one such as {DEFAULT_FORMAT}, opus_48000_96 or wav_44100")


def guidance(influence: float | None) -> float | None:
    """The scale of guidance for an influence; None up to the interface's default, which leaves it to the model."""
    if influence is None or influence <= NEUTRAL_INFLUENCE:
        return None
    return 1 + (STRONGEST_GUIDANCE - 1) * (influence - NEUTRAL_INFLUENCE) / (1 - NEUTRAL_INFLUENCE)


def flag(value: object) -> bool:
    """A flag of the body.

    Raises:
        RequestError: It is none.
    """
    if value is not None and not isinstance(value, bool):
        raise RequestError(f"loop is {shown(value)}, expected true or false")
    return bool(value)


def failed(status: int, kind: str, message: str, headers: Mapping[str, str]) -> Response:
    """An error in this interface's shape."""
    return JSONResponse({"detail": {"status": kind, "message": message}}, status, dict(headers))
