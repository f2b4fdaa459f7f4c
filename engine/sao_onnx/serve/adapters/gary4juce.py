"""What the gary4juce plug-in calls for Stable Audio Open Small, on its default port, 8005.

It appends the tempo to the prompt ("drums 120bpm"), and reads the number of bars and the length of a loop from the answer.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sao_onnx.bundle.prompts import bundle_prompts
from sao_onnx.clip import Clip
from sao_onnx.errors import RequestError
from sao_onnx.planning.loops import loop_seconds
from sao_onnx.request import DEFAULT_BEATS, kinds
from sao_onnx.serve.adapters.common import answering, base64_of, choice, number, seed, text, whole
from sao_onnx.serve.bodies import json_object, limited
from sao_onnx.serve.forms import parts, recording
from sao_onnx.serve.service import Service

RANDOM = -1
"""The seed that stands for a random one."""
BARS = (8, 4, 2, 1)
SPARE = 1.0
"""Seconds of the window that a loop leaves over, where the number of bars is ours to choose."""
AVOIDED = {
    "drums": "melody, harmony, pitched instruments, vocals",
    "instruments": "drums, percussion",
}


def routes(service: Service) -> list[Route]:
    """The routes of this interface; those below `/audio` are the same by the names that the plug-in uses elsewhere."""
    interface = _Gary(service)
    get = {"/models/status": interface.status, "/models/prompts": interface.prompts, "/health": interface.health}
    post = {
        "/generate": interface.generate,
        "/generate/loop": interface.loop,
        "/generate/style-transfer": interface.transfer,
        "/models/switch": interface.switch,
        "/models/checkpoints": interface.checkpoints,
    }
    found = [(path, endpoint, "GET") for path, endpoint in get.items()] + [
        (path, endpoint, "POST") for path, endpoint in post.items()
    ]
    return [
        Route(f"{prefix}{path}", answering(failed, endpoint), methods=[method])
        for path, endpoint, method in found
        for prefix in ("", "/audio")
    ]


class _Gary:
    def __init__(self, service: Service) -> None:
        self._service = service

    async def health(self, http: HttpRequest) -> Response:
        return JSONResponse({"status": "healthy", "model_loaded": True, "device": "cpu", "cuda_available": False})

    async def status(self, http: HttpRequest) -> Response:
        models = self._service.models
        details = {}
        for name, bundle in models.bundles.items():
            audio = bundle.manifest.audio
            kind = "standard" if name == models.default else "finetune"
            # The plug-in takes repository and checkpoint of a fine-tune out of its source.
            source = bundle.manifest.model.name if kind == "standard" else f"{name}/{name}"
            about = {
                "type": kind,
                "source": source,
                "device": "cpu",
                "sample_rate": audio.sample_rate,
                "sample_size": audio.window,
            }
            details[name] = about
        loaded = list(models.bundles)
        return JSONResponse({"cache_status": {"loaded_models": loaded, "usage_order": loaded}, "model_details": details})

    async def prompts(self, http: HttpRequest) -> Response:
        models = self._service.models
        # The plug-in looks for these groups; a model may bring none, or others.
        dice: dict[str, Sequence[str]] = {"generic": [], "drums": [], "instrumental": []}
        dice |= await run_in_threadpool(bundle_prompts, models.bundle(models.default))
        return JSONResponse({"success": True, "model_key": models.default, "prompts": {"version": 1, "dice": dice}})

    async def switch(self, http: HttpRequest) -> Response:
        fields = json_object(await http.body())
        name = self._model(fields)
        return JSONResponse(
            {"success": True, "model_type": fields.get("model_type", "standard"), "message": f"{name} is ready"}
        )

    async def checkpoints(self, http: HttpRequest) -> Response:
        fields = json_object(await http.body())
        wanted = text(fields, "finetune_repo", required=True)
        found = [name for name in self._service.models.bundles if name == wanted]
        if not found:
            raise RequestError(f"{wanted} is not on this server; convert it, and start the server with --model")
        return JSONResponse({"success": True, "repo": wanted, "checkpoints": found, "count": len(found)})

    async def generate(self, http: HttpRequest) -> Response:
        fields = json_object(await http.body())
        prompt = text(fields, "prompt", required=True) or ""
        seconds = number(fields, "seconds_total", 1, self._service.settings.limits.seconds)
        window = self._service.models.bundle(self._model(fields)).manifest.window_seconds
        options = self._common(fields) | {
            # They clamp it to the window.
            "seconds": None if seconds is None else min(seconds, window),
            "negative_prompt": text(fields, "negative_prompt"),
        }
        return await self._answer(http, fields, prompt, options, {})

    async def loop(self, http: HttpRequest) -> Response:
        if "application/json" in http.headers.get("content-type", ""):
            return await self._loop(http, json_object(await http.body()))
        async with parts(http, self._service.settings.limits) as form:
            return await self._loop(http, form)

    async def _loop(self, http: HttpRequest, fields: Mapping[str, Any]) -> Response:
        prompt = text(fields, "prompt", required=True) or ""
        kind = choice(fields, "loop_type", ("auto", "drums", "instruments"), "auto")
        tempo = re.search(r"(\d+(?:\.\d+)?)\s*bpm\b", prompt, re.IGNORECASE)
        if tempo is None:
            raise RequestError("the prompt names no tempo, expected one such as 120bpm")
        bpm, asked = float(tempo[1]), kinds()["bpm"].option
        if not (asked.minimum or 1) <= bpm <= (asked.maximum or math.inf):
            raise RequestError(f"the prompt names a tempo of {bpm:g} BPM, expected {asked.minimum:g} to {asked.maximum:g}")
        window = self._service.models.bundle(self._model(fields)).manifest.window_seconds
        bars = whole(fields, "bars", 1, 64) or next(
            (n for n in BARS if loop_seconds(bpm, n, DEFAULT_BEATS) <= window - SPARE), 1
        )
        if kind == "drums" and "drum" not in prompt.lower():
            prompt = f"{prompt} drum loop"
        options = self._common(fields) | {"bpm": bpm, "bars": bars}
        # A negative prompt means something only where there is guidance.
        if kind in AVOIDED and options["cfg_scale"] not in (None, 1):
            options["negative_prompt"] = AVOIDED[kind]
        sent = await recording(fields, "audio_file", self._service.settings.limits)
        if sent is not None:
            options["init_noise_level"] = number(fields, "style_strength", 0.12, 1) or 0.8
        seconds = loop_seconds(bpm, bars, DEFAULT_BEATS)
        about = {"detected_bpm": bpm, "bars": bars, "loop_type": kind, "loop_duration_seconds": round(seconds, 2)}
        return await self._answer(http, fields, prompt, options, about, sent)

    async def transfer(self, http: HttpRequest) -> Response:
        async with parts(http, self._service.settings.limits) as form:
            prompt = text(form, "prompt", required=True) or ""
            strength = number(form, "style_strength", 0.1, 1) or 0.8
            options = self._common(form) | {
                "init_noise_level": max(strength, 0.12),
                "negative_prompt": text(form, "negative_prompt"),
            }
            sent = await recording(form, "audio_file", self._service.settings.limits, required=True)
            return await self._answer(http, form, prompt, options, {"style_strength": strength}, sent)

    def _model(self, fields: Mapping[str, Any]) -> str:
        """The model that the plug-in chose.

        Raises:
            RequestError: It is not on this server.
        """
        models = self._service.models
        if choice(fields, "model_type", ("standard", "finetune"), "standard") == "standard":
            return models.default
        named = [text(fields, "finetune_checkpoint") or "", text(fields, "finetune_repo") or ""]
        for name in named:
            if name in models.bundles:
                return name
        raise RequestError(
            f"the fine-tune {' of '.join(filter(None, named))} is not on this server; convert it and name it with --model"
        )

    def _common(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        sampler = text(fields, "sampler_type")
        return {
            "seed": seed(fields, RANDOM),
            "steps": whole(fields, "steps", 1, self._service.settings.limits.steps),
            "cfg_scale": number(fields, "cfg_scale", 0, 20),
            # Samplers that this engine does not have are left to the model.
            "sampler": sampler if sampler in ("pingpong", "euler", "dpmpp") else None,
        }

    async def _answer(
        self,
        http: HttpRequest,
        fields: Mapping[str, Any],
        prompt: str,
        options: dict[str, Any],
        about: dict[str, Any],
        sent: Any = None,
    ) -> Response:
        format = choice(fields, "return_format", ("file", "base64"), "file")
        request = limited(prompt, options, self._service.settings.limits, sent)
        clip = await self._service.clip(request, http, self._model(fields))
        data = await run_in_threadpool(clip.encoded, ".wav")
        if format == "file":
            return Response(data, media_type="audio/wav", headers={"X-Sao-Seed": str(clip.seed)})
        return JSONResponse({"success": True, "audio_base64": base64_of(data), "metadata": _metadata(clip) | about})


def _metadata(clip: Clip) -> dict[str, Any]:
    took = clip.timings.total
    return {
        "prompt": clip.provenance.prompt,
        "seed": clip.seed,
        "sample_rate": clip.sample_rate,
        "duration_seconds": round(clip.seconds, 2),
        "generation_time": round(took, 2),
        "realtime_factor": round(clip.seconds / max(took, 1e-6), 2),
        "device": "cpu",
        **{name: value for name, value in clip.provenance.options.items() if name in ("steps", "cfg_scale", "negative_prompt")},
    }


def failed(status: int, kind: str, message: str, headers: Mapping[str, str]) -> Response:
    """An error in this interface's shape."""
    return JSONResponse({"success": False, "error": message}, status, dict(headers))
