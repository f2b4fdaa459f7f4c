"""What the engine computes, as test vectors."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from models.vectors.arrays import to_json
from sao_onnx import load
from sao_onnx.arrays import Array
from sao_onnx.audio.files import encode_audio
from sao_onnx.bundle.bundle import open_bundle
from sao_onnx.bundle.manifest import Precision
from sao_onnx.events import Finished, Sampled
from sao_onnx.request import Request
from sao_onnx.running.loading import load_conditioner
from sao_onnx.runtime.sessions import SessionFactory
from sao_onnx.sampling.noise import Noise
from sao_onnx.sampling.objectives import OBJECTIVES
from sao_onnx.stages.tokenizer import Tokenizer

FORMAT = 1
HERE = Path(__file__).parent
ROOT = HERE.parent.parent

PROMPTS = (
    "short kick drum",
    "128 BPM tech house drum loop, warm  bass",
    "",
    "  Two spaces   at\tboth ends  ",
    "ﬁne ½ Ａ é 日本語 🎵 \ufeffx\x85",
    "a </s> b <pad>c<unk>",
    " ".join(f"{i} beats of a drum and bass" for i in range(12)),
)
"""Plain ones, an empty one, white space, signs that are no tokens, special tokens, and more than a model reads."""

DRAWS = ((0, ((1, 8, 64), (5,), (5,), (37,))), (42, ((2, 8), (17,), (15,))), (2**32 - 1, ((624,), (3,))))
"""Seeds, and the shapes of arrays that are drawn one after the other."""

SCHEDULES = ((1, 1.0), (8, 1.0), (50, 1.0), (8, 0.7), (3, 0.12))

SAMPLES = (0.0, -1e-9, 1e-9, 0.5, -0.5, 1 / 32768, -1 / 32768, 0.99999, 1.0, -1.0, 1.5, -1.5, 0.1, -0.1, 0.30001)

INITIAL_SEED, INITIAL_LEVEL = 7, 0.25
"""The initial audio of a clip: noise of this seed, times this level."""


@dataclass(frozen=True)
class Case:
    """A clip.

    Attributes:
        name: What it shows.
        prompt: Text.
        options: Of the request, by name.
        initial: Frames of the initial audio; 0 for none.
        coarse: It is long, so fewer of its values are written.
    """

    name: str
    prompt: str
    options: Mapping[str, Any]
    initial: int = 0
    coarse: bool = False


@dataclass(frozen=True)
class Source:
    """A bundle, and what is made with it.

    Attributes:
        folder: Of the bundle.
        precision: Of its graphs.
        latent_stride: Of the values of latents and conditioning, one in so many is written.
        cases: Its clips.
    """

    folder: Path
    precision: Precision
    latent_stride: int
    cases: tuple[Case, ...] = field(default=())


WINDOW = {"window_seconds": 40 * 512 / 44100}
"""40 latents: more than a tile and a piece of the decoder."""

SHORT = {**WINDOW, "seconds": 0.4}

SOURCES = {
    "miniature": Source(
        ROOT / "models" / "miniature" / "bundle",
        "fp32",
        1,
        (
            Case("ping-pong", "short kick drum", {"seed": 42, "steps": 4, **SHORT}),
            Case(
                "Euler and guidance",
                "warm bass",
                {"seed": 1, "steps": 3, "sampler": "euler", "cfg_scale": 3.0, "negative_prompt": "drum loop", **SHORT},
            ),
            Case(
                "DPM++ and guidance without a negative prompt",
                "",
                {"seed": 2, "steps": 4, "sampler": "dpmpp", "cfg_scale": 0.5, "normalize": "none", **SHORT},
            ),
            Case(
                "initial audio",
                "drum loop",
                {"seed": 3, "steps": 2, "init_noise_level": 0.6, "window_seconds": 64 * 512 / 44100, "seconds": 0.25},
                30_000,
            ),
            Case(
                "regions that are kept",
                "drum loop",
                {"seed": 4, "steps": 3, "keep": [[0.0, 0.2], [0.35, 0.4]], "window_seconds": 64 * 512 / 44100, "seconds": 0.5},
                40_000,
            ),
            Case("a loop of bars", "drum loop", {"seed": 5, "steps": 2, "bpm": 400.0, "bars": 1, "beats": 2, **WINDOW}),
            Case("a loop", "drum loop", {"seed": 6, "steps": 1, "loop": True, **WINDOW}),
            Case("longer than the window", "drum loop", {"seed": 7, "steps": 1, "seconds": 4.2}, coarse=True),
            Case("a recording made longer", "drum loop", {"seed": 8, "steps": 1, "extend": 0.3}, 6000, coarse=True),
        ),
    ),
    "sao-tiny": Source(
        ROOT / "engine" / "sao_onnx" / "bundles" / "sao-tiny",
        "int8",
        5,
        (Case("ping-pong", "short kick drum", {"seed": 42, "steps": 4, **SHORT}),),
    ),
}


def initial_audio(channels: int, frames: int) -> Array:
    """What a clip starts from, float32 [channels, frames]."""
    return Noise(INITIAL_SEED).normal((channels, frames)) * np.float32(INITIAL_LEVEL)


def shared() -> dict[str, Any]:
    """Vectors that need no bundle."""
    return {
        "format": FORMAT,
        "noise": [{"seed": seed, "draws": _draws(seed, shapes)} for seed, shapes in DRAWS],
        "schedules": [
            {"steps": steps, "start": start, "sigmas": to_json(OBJECTIVES["rectified_flow"].sigmas(steps, start))}
            for steps, start in SCHEDULES
        ],
        "samples": {"values": to_json(np.array(SAMPLES, np.float32)), "int16": list(_int16(SAMPLES))},
    }


def bundle(source: Source) -> dict[str, Any]:
    """Vectors of a bundle."""
    opened = open_bundle(source.folder)
    prompt = opened.manifest.conditioning.prompt
    tokenizer = Tokenizer(opened.path(opened.manifest.tokenizer), prompt)
    ids, mask = tokenizer(PROMPTS[:-1])
    long = _cut(tokenizer, PROMPTS[-1])
    rows = [row[: sum(kept)] for row, kept in zip(ids.tolist(), mask.tolist(), strict=True)]
    return {
        "format": FORMAT,
        "model": opened.manifest.model.name,
        "bundle": opened.fingerprint,
        "precision": source.precision,
        "tokens": [{"prompt": text, "ids": row} for text, row in zip(PROMPTS, [*rows, long], strict=True)],
        "clips": [_clip(source, case) for case in source.cases],
    }


def _cut(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """Ids of a prompt that is too long, without the warning."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ids, _ = tokenizer([prompt])
    row: list[int] = ids[0].tolist()
    return row


def _draws(seed: int, shapes: tuple[tuple[int, ...], ...]) -> list[dict[str, Any]]:
    noise = Noise(seed)
    return [to_json(noise.normal(shape)) for shape in shapes]


def _int16(samples: tuple[float, ...]) -> tuple[int, ...]:
    """What a WAV file of 16 bits holds of samples."""
    data = encode_audio(np.array([samples], np.float32), 44100, ".wav")
    start = data.index(b"data") + 8
    return struct.unpack_from(f"<{len(samples)}h", data, start)


def _clip(source: Source, case: Case) -> dict[str, Any]:
    opened = open_bundle(source.folder)
    manifest, options = opened.manifest, dict(case.options)
    if case.initial:
        options["init_audio"] = (initial_audio(manifest.audio.channels, case.initial), manifest.audio.sample_rate)
    steps: list[Array] = []
    with load(source.folder, precision=source.precision, threads=1, tuned=False) as engine:
        planned = engine.plan(Request(case.prompt, **options))
        for event in engine.run(planned):
            if isinstance(event, Sampled):
                steps.append(event.latents)
            elif isinstance(event, Finished):
                clip = event.clip
    numbers = {name: [value] for name, value in planned.windows[0].numbers.items()}
    condition = load_conditioner(opened, source.precision, SessionFactory(1))([planned.prompt], numbers)
    stride, audio_stride = (COARSE, COARSE) if case.coarse else (source.latent_stride, AUDIO_STRIDE)
    return {
        "name": case.name,
        "prompt": case.prompt,
        "options": dict(case.options),
        "initial": {"frames": case.initial, "seed": INITIAL_SEED, "level": INITIAL_LEVEL} if case.initial else None,
        "cross_attention": to_json(condition.cross_attention[0], stride),
        "global_condition": to_json(condition.global_condition[0], stride),
        "steps": [to_json(latents, stride) for latents in steps],
        "audio": to_json(clip.samples, audio_stride),
    }


AUDIO_STRIDE, COARSE = 23, 103
"""Primes, so that every phase of the upsampling is met."""
