"""Other shapes of the model: the converted bundle against the whole pipeline in PyTorch."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sao_onnx
from sao_onnx.bundle.bundle import open_bundle
from sao_onnx.runtime.sessions import GraphSession, SessionFactory
from sao_onnx_convert.family.stable_audio_open.pipeline import TorchPipeline

T5 = {"vocab_size": 256, "d_model": 32, "d_kv": 16, "d_ff": 48, "num_layers": 1, "num_heads": 2, "pad_token_id": 0}


@dataclass(frozen=True, kw_only=True)
class Variant:
    """How a model differs from the miniature."""

    strides: list[int]
    channels: int = 2
    sample_rate: int = 44100
    qk_norm: str | None = "ln"
    cond_dim: int = 32
    numbers: dict[str, tuple[float, float]] = field(default_factory=lambda: {"seconds_total": (0, 256)})
    final_tanh: bool = False
    half: bool = False
    embed_dim: int = 64
    num_heads: int = 2
    project_cond_tokens: bool = True
    t5_width: int = 32
    project_out: bool = False
    max_length: int = 64
    positions: int | None = None
    cross_attention: list[str] | None = None
    rest: int = 0


VARIANTS = {
    "three blocks of odd strides, mono, 32 kHz, no qk_norm": Variant(
        strides=[3, 5, 2],
        channels=1,
        sample_rate=32000,
        qk_norm=None,
    ),
    "five blocks, proj_out, two numbers, tanh": Variant(
        strides=[2, 2, 3, 2, 4],
        cond_dim=48,
        numbers={"seconds_start": (0, 512), "seconds_total": (1, 30.5)},
        final_tanh=True,
        half=True,
    ),
    "positions embedded, numbers in the global condition alone, a length between two latents": Variant(
        strides=[4, 4],
        positions=80,
        numbers={"seconds_total": (0, 256), "bpm": (60, 200), "swing": (0, 1)},
        cross_attention=["prompt", "seconds_total"],
        rest=15,
    ),
    "one block, grouped key and value heads, proj_out by request": Variant(
        strides=[16],
        embed_dim=128,
        num_heads=4,
        cond_dim=64,
        project_cond_tokens=False,
        t5_width=64,
        project_out=True,
        max_length=20,
    ),
}


def configurations(variant: Variant) -> tuple[dict[str, Any], dict[str, Any]]:
    """A model_config.json and a T5 configuration."""
    ratio, mults = math.prod(variant.strides), [1 + i // 2 for i in range(len(variant.strides))]
    oobleck = {"channels": 4, "c_mults": mults, "strides": variant.strides, "use_snake": True}
    prompt = {"t5_model_name": "t5-base", "max_length": variant.max_length, "project_out": variant.project_out}
    configs = [{"id": "prompt", "type": "t5", "config": prompt}]
    configs += [{"id": id, "type": "number", "config": {"min_val": a, "max_val": b}} for id, (a, b) in variant.numbers.items()]
    dit = {
        "io_channels": 6,
        "embed_dim": variant.embed_dim,
        "depth": 2,
        "num_heads": variant.num_heads,
        "cond_token_dim": variant.cond_dim,
        "global_cond_dim": variant.cond_dim * len(variant.numbers),
        "project_cond_tokens": variant.project_cond_tokens,
        "attn_kwargs": {} if variant.qk_norm is None else {"qk_norm": variant.qk_norm},
    }
    if variant.positions is not None:
        dit |= {"use_abs_pos_emb": True, "abs_pos_emb_max_length": variant.positions}
    autoencoder = {
        "encoder": {
            "type": "oobleck",
            "requires_grad": False,
            "config": oobleck | {"in_channels": variant.channels, "latent_dim": 12},
        },
        "decoder": {
            "type": "oobleck",
            "requires_grad": True,
            "config": oobleck | {"out_channels": variant.channels, "latent_dim": 6, "final_tanh": variant.final_tanh},
        },
        "bottleneck": {"type": "vae", "requires_grad": False},
        "latent_dim": 6,
        "downsampling_ratio": ratio,
        "io_channels": variant.channels,
    }
    config = {
        "model_type": "diffusion_cond",
        "sample_size": 70 * ratio + variant.rest,
        "sample_rate": variant.sample_rate,
        "audio_channels": variant.channels,
        "model": {
            "pretransform": {"type": "autoencoder", "config": autoencoder, "model_half": variant.half},
            "conditioning": {"configs": configs, "cond_dim": variant.cond_dim},
            "diffusion": {
                "cross_attention_cond_ids": variant.cross_attention or ["prompt", *variant.numbers],
                "global_cond_ids": list(variant.numbers),
                "diffusion_objective": "rf_denoiser",
                "type": "dit",
                "config": dit,
            },
            "io_channels": 6,
        },
        "training": {"use_ema": True, "demo": {"demo_every": 2000}},
    }
    return copy.deepcopy(config), T5 | {"d_model": variant.t5_width}


@pytest.fixture(scope="module", params=VARIANTS)
def converted(request, tmp_path_factory) -> tuple[Path, Path]:
    from sao_onnx_convert import convert
    from sao_onnx_convert.family.stable_audio_open.synthetic import write_checkpoint, write_t5

    folder = tmp_path_factory.mktemp("variant")
    config, t5_config = configurations(VARIANTS[request.param])
    write_checkpoint(folder / "checkpoint", config, t5_config["d_model"], seed=3)
    write_t5(folder / "checkpoint" / "t5", t5_config, seed=4)
    convert(folder / "checkpoint", folder / "checkpoint" / "t5", folder / "bundle", precisions=("int8", "fp32"))
    return folder / "checkpoint", folder / "bundle"


def test_generates_what_pytorch_generates(converted):
    checkpoint, bundle = converted
    pipeline, engine = TorchPipeline.load(checkpoint, checkpoint / "t5"), sao_onnx.load(bundle, precision="fp32", threads=2)
    numbers = {n.id: n.minimum + 0.002 * (i + 1) for i, n in enumerate(engine.manifest.conditioning.numbers)}
    latents = pipeline.sample(*pipeline.condition("a warm pad, slow", numbers), seed=11, steps=4)
    audio = pipeline.decode(latents)[0].numpy()
    clip = engine.generate("a warm pad, slow", seed=11, steps=4, numbers=numbers, full_window=True, normalize="none")
    np.testing.assert_allclose(clip.latents, latents[0].numpy(), rtol=0, atol=1e-4)
    np.testing.assert_allclose(clip.samples, audio, rtol=0, atol=1e-4)
    assert audio.std() > 1e-3
    config = json.loads((checkpoint / "model_config.json").read_text())
    strides = config["model"]["pretransform"]["config"]["decoder"]["config"]["strides"]
    assert clip.samples.shape[1] == decoded_frames(70, strides)
    assert engine.manifest.audio.sample_rate == config["sample_rate"] == clip.sample_rate


def test_encodes_what_pytorch_encodes(converted):
    checkpoint, bundle = converted
    pipeline, engine = TorchPipeline.load(checkpoint, checkpoint / "t5"), sao_onnx.load(bundle, precision="fp32", threads=2)
    manifest = engine.manifest
    audio = np.random.default_rng(0).uniform(-1, 1, (1, manifest.audio.channels, 9 * manifest.latents.ratio)).astype(np.float32)
    graph = manifest.graph("encoder", "fp32")
    found = GraphSession(SessionFactory(2), engine.bundle.path(graph.path), graph).run(audio=audio)
    for one, other in zip(found, pipeline.encode(torch.from_numpy(audio)), strict=True):
        assert one.shape == (1, 6, 9)
        np.testing.assert_allclose(one, other.numpy(), rtol=0, atol=1e-4)


def test_audio_to_audio_depends_on_the_recording(converted):
    _, bundle = converted
    engine = sao_onnx.load(bundle, precision="fp32", threads=2)
    tone = np.sin(np.arange(2000) / 20).astype(np.float32)
    options: dict[str, Any] = {"init_noise_level": 0.3, "seed": 1, "steps": 2}
    of_tone, again, of_silence = (
        engine.generate("rain", init_audio=(audio, 44100), **options).latents for audio in (tone, tone, 0 * tone)
    )
    np.testing.assert_array_equal(of_tone, again)
    assert np.abs(of_tone - of_silence).max() > 0.01


def test_the_manifest_says_what_the_configuration_says(converted):
    checkpoint, bundle = converted
    config = json.loads((checkpoint / "model_config.json").read_text())
    manifest = open_bundle(bundle).manifest
    conditioning = config["model"]["conditioning"]
    expected = [
        (c["id"], c["config"]["min_val"], c["config"]["max_val"]) for c in conditioning["configs"] if c["type"] == "number"
    ]
    assert [(n.id, n.minimum, n.maximum) for n in manifest.conditioning.numbers] == expected
    assert manifest.audio.channels == config["audio_channels"]
    assert manifest.audio.window == 70 * manifest.latents.ratio <= config["sample_size"]
    assert manifest.conditioning.width == conditioning["cond_dim"]
    assert all(graph.max_error < graph.tolerance for graph in manifest.graphs if graph.tolerance is not None)


def test_int8(converted):
    """Narrow random networks leave 8 bits little to average over; the bounds are those of gross errors."""
    _, bundle = converted
    exact, rounded = (sao_onnx.load(bundle, precision=precision, threads=2) for precision in ("fp32", "int8"))
    assert all(graph.snr > 20 for graph in exact.manifest.graphs)
    one, other = (engine.generate("rain", seed=1, full_window=True, normalize="none") for engine in (exact, rounded))
    assert one.samples.shape == other.samples.shape
    assert np.corrcoef(one.samples.ravel(), other.samples.ravel())[0, 1] > 0.97


def decoded_frames(latents: int, strides: list[int]) -> int:
    """Audio frames that the decoder makes of so many latents: odd strides cost one frame at each block."""
    frames = latents
    for stride in reversed(strides):
        frames = frames * stride + stride - 2 * math.ceil(stride / 2)
    return frames
