"""What the int8 recipe calibrates on and is measured on: the model's own signals, over varied prompts and fixed seeds."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sao_onnx.bundle.manifest import Role
from sao_onnx.request import DURATION
from sao_onnx_convert.family.stable_audio_open.networks.autoencoder import Stage
from sao_onnx_convert.family.stable_audio_open.pipeline import TorchPipeline

PROMPTS = (
    "128 BPM tech house drum loop",
    "the sound of waves hitting the shore, with gulls",
    "warm analog pad, slow attack",
    "distorted electric guitar riff in E minor",
    "a door slams shut in a large hall",
    "solo piano, gentle, C major",
)
"""The last one is kept for measuring."""

EXCERPT = 48
"""Latents of each clip that the decoder is watched on."""

LEVELS = (1.0, 0.6, 0.2)
"""Noise levels at which velocities are measured."""


@dataclass(frozen=True)
class Signals:
    """Signals of the model.

    Attributes:
        latents: Excerpts to calibrate the decoder on, [1, channels, n] each.
        excerpt: One of the prompt that was not calibrated on.
        audio: What the decoder makes of it.
        trials: Inputs by name for each role, of that prompt.
    """

    latents: list[Tensor]
    excerpt: Tensor
    audio: Tensor
    trials: dict[Role, list[dict[str, Tensor]]]


@torch.no_grad()
def collect_signals(pipeline: TorchPipeline, stages: list[Stage], roles: tuple[Role, ...], steps: int) -> Signals:
    """Sample every prompt with the model itself.

    Args:
        pipeline: The model in PyTorch.
        stages: Its decoder's.
        roles: Of the stages.
        steps: Sampling steps.
    """
    clips, conditions = [], []
    for seed, prompt in enumerate(PROMPTS):
        condition = pipeline.condition(prompt, _numbers(pipeline))
        conditions.append(condition)
        clips.append(pipeline.sample(*condition, seed, steps))
    excerpts = [_excerpt(clip, seed) for seed, clip in enumerate(clips)]
    random = torch.Generator().manual_seed(len(PROMPTS))
    clip, (cross, global_condition) = clips[-1], conditions[-1]
    keys, values = pipeline.model.dit.context(cross)
    trials: dict[Role, list[dict[str, Tensor]]] = {
        "text_encoder": [_tokens(pipeline, prompt) for prompt in PROMPTS],
        "context": [{"cross_attention": cross}],
        "dit": [
            {
                "latents": (1 - level) * clip + level * torch.randn(clip.shape, generator=random),
                "times": torch.tensor([level]),
                "keys": keys,
                "values": values,
                "global_condition": global_condition,
            }
            for level in LEVELS
        ],
    }
    x = excerpts[-1]
    # The last stage is measured behind the others, on the excerpt itself.
    for i, (role, stage) in enumerate(zip(roles[:-1], stages[:-1], strict=True)):
        trials[role] = [{"latents" if i == 0 else f"features_{i}": x}]
        # The later stages see the first few frames of it; they are many.
        x = stage.layers(x)[:, :, : 16 * EXCERPT]
    ratio = pipeline.config.model.pretransform.config.downsampling_ratio
    audio = pipeline.decode(excerpts[-1])
    trials["encoder"] = [{"audio": audio[:, :, : 15 * ratio]}]
    return Signals(excerpts[:-1], excerpts[-1], audio, trials)


def _numbers(pipeline: TorchPipeline) -> dict[str, float]:
    numbers = {number.id: number.config.min_val for number in pipeline.config.numbers}
    if DURATION in numbers:
        numbers[DURATION] = pipeline.config.window_frames / pipeline.config.sample_rate
    return numbers


def _excerpt(clip: Tensor, index: int) -> Tensor:
    """Another place of every clip: its beginning, its end, and between."""
    length = min(EXCERPT, clip.shape[2])
    start = (clip.shape[2] - length) * index // (len(PROMPTS) - 1)
    return clip[:, :, start : start + length].contiguous()


def _tokens(pipeline: TorchPipeline, prompt: str) -> dict[str, Tensor]:
    ids = torch.tensor([pipeline.text.tokenizer.encode(prompt).ids[: pipeline.config.prompt.config.max_length]])
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
