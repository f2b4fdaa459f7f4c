"""A program that uses the package as the guide shows it. Type checkers must find nothing in it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Unpack

import numpy as np

import sao_onnx
from sao_onnx import Clip, Engine, Normalization, Options, Precision, Request, SamplerName, SaoOnnxError, SaoOnnxWarning
from sao_onnx.errors import BundleNotFoundError, OutputExistsError, RequestError
from sao_onnx.events import Conditioned, Decoded, Event, Finished, Sampled
from sao_onnx.provenance import Provenance, read_provenance

precision: Precision = "int8"
sampler: SamplerName = "euler"
level: Normalization = "lufs"

engine: Engine = sao_onnx.load("sao-small", threads=4, precision=precision, keep_loaded=False)
clip: Clip = engine.generate("warm analog pad, slow", seconds=3, seed=7, sampler=sampler, normalize=level)
path: Path = clip.save("pad.wav", overwrite=True, bits=24)
frames: int = clip.samples.shape[1]
rate: int = clip.sample_rate
provenance: Provenance = clip.provenance
again: Provenance = read_provenance(path)

darker = engine.generate("dark drone", init_audio=clip, init_noise_level=0.5)
closer = engine.generate("dark drone", latents=clip.latents, init_noise_level=0.5)
sampled = engine.generate("dark drone", init_audio=(np.zeros((2, 100), np.float32), 44100), keep=[(0, 1.5)])
file = engine.generate("dark drone", init_audio=Path("voice.wav"), regenerate=((0.5, 1),), numbers={"seconds_total": 2})

request = Request("kick", seconds=1)
kick = engine.generate(request, mono=True)
planned = engine.plan(request)
last = list(engine.run(planned))[-1]


def fraction(event: Event) -> float:
    if isinstance(event, Conditioned):
        return event.windows / event.steps
    if isinstance(event, Sampled):
        return float(engine.decode(event.denoised, seconds=0.5).max()) + event.index
    if isinstance(event, Decoded):
        return event.pieces + float(event.samples.max())
    return event.clip.seconds  # Only Finished is left.


def stream(prompt: str, **options: Unpack[Options]) -> Iterator[float]:
    for event in engine.stream(prompt, **options):
        yield event.fraction


async def rain() -> None:
    async for event in engine.astream("rain on a tin roof", seed=1):
        if isinstance(event, Finished):
            event.clip.save("rain.wav")
    async with engine.astream("rain", steps=4) as events:
        async for event in events:
            fraction(event)
            break
    made: Clip = await engine.agenerate("rain", seconds=1)
    made.save("rain.flac")


async def fractions(prompt: str) -> AsyncIterator[float]:
    async with asyncio.timeout(30):
        async for event in engine.astream(prompt):
            yield event.fraction


def several() -> list[float]:
    mine: Options = {"seed": 3, "mono": True}
    clips = engine.generate_many(["kick", Request("snare"), ("hat", mine)], seconds=1, seed=1, jobs=2)
    return [each.seconds for each in clips]


try:
    with sao_onnx.load() as tiny:
        tiny.unload()
    asyncio.run(rain())
except (RequestError, BundleNotFoundError, OutputExistsError) as error:
    message = str(error)
except SaoOnnxError:
    pass

warning: type[UserWarning] = SaoOnnxWarning
