"""Signals for calibrating the quantization recipe and for measuring it: the model's own, for varied prompts and fixed seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sao_onnx.bundle.manifest import DECODER_ROLES, DURATION, Number, Role
from sao_onnx_convert.family.stable_audio_open.networks.autoencoder import DecoderSegment
from sao_onnx_convert.family.stable_audio_open.pipeline import TorchPipeline
from sao_onnx_convert.family.stable_audio_open.sampling import DEFAULTS

PROMPTS = (
    "128 BPM tech house drum loop",
    "the sound of waves hitting the shore, with gulls",
    "warm analog pad, slow attack",
    "distorted electric guitar riff in E minor",
    "a door slams shut in a large hall",
    "solo piano, gentle, C major",
)
"""The last one is for measuring; the others are for calibration."""

EXCERPT = 48
"""Latents of each clip that the decoder is calibrated on."""

MAX_STEPS = 16
"""The most sampling steps of a clip. Ranges need typical latents, not the best ones, and a base model takes 50 steps of two
passes."""

SIGMAS = (1.0, 0.6, 0.2)
"""Noise levels at which velocities are measured."""


@dataclass(frozen=True)
class Signals:
    """Signals of the model.

    Attributes:
        latents: Excerpts to calibrate the decoder on, [1, channels, n] each.
        excerpt: Latents for measuring, of the prompt that was not calibrated on, [1, channels, n].
        audio: What the decoder makes of them, [1, channels, frames].
        trials: For each role, inputs by name for measuring, of that prompt.
    """

    latents: list[Tensor]
    excerpt: Tensor
    audio: Tensor
    trials: dict[Role, list[dict[str, Tensor]]]


@torch.no_grad()
def collect_signals(pipeline: TorchPipeline, segments: Sequence[DecoderSegment]) -> Signals:
    """Sample every prompt with the model itself.

    Args:
        pipeline: The model in PyTorch.
        segments: Its decoder's.
    """
    steps = min(MAX_STEPS, DEFAULTS[pipeline.config.objective].steps)
    clips, conditions = [], []
    for seed, prompt in enumerate(PROMPTS):
        condition = pipeline.condition(prompt, _numbers(pipeline))
        conditions.append(condition)
        clips.append(pipeline.sample(*condition, seed, steps=steps))
    excerpts = [_excerpt(clip, seed) for seed, clip in enumerate(clips)]
    audio = pipeline.decode(excerpts[-1])
    ratio = pipeline.config.model.pretransform.config.downsampling_ratio
    trials: dict[Role, list[dict[str, Tensor]]] = {
        "text_encoder": [_tokens(pipeline, prompt) for prompt in PROMPTS],
        "context": [{"cross_attention": conditions[-1][0]}],
        "dit": _dit_trials(pipeline, clips[-1], *conditions[-1]),
        **_decoder_trials(segments, excerpts[-1]),
        "encoder": [{"audio": audio[:, :, : 15 * ratio]}],
    }
    return Signals(excerpts[:-1], excerpts[-1], audio, trials)


def _dit_trials(
    pipeline: TorchPipeline, clip: Tensor, cross_attention: Tensor, global_condition: Tensor
) -> list[dict[str, Tensor]]:
    """A clip with noise of several levels."""
    random = torch.Generator().manual_seed(len(PROMPTS))
    keys, values = pipeline.model.dit.context(cross_attention)
    return [
        {
            "latents": (1 - sigma) * clip + sigma * torch.randn(clip.shape, generator=random),
            "times": torch.tensor([sigma]),
            "keys": keys,
            "values": values,
            "global_condition": global_condition,
        }
        for sigma in SIGMAS
    ]


def _decoder_trials(segments: Sequence[DecoderSegment], excerpt: Tensor) -> dict[Role, list[dict[str, Tensor]]]:
    """Inputs of every segment but the last one, which is measured behind the others, on the excerpt itself."""
    trials: dict[Role, list[dict[str, Tensor]]] = {}
    x = excerpt
    for i, (role, segment) in enumerate(zip(DECODER_ROLES, segments[:-1], strict=False)):
        trials[role] = [{"latents" if i == 0 else f"features_{i}": x}]
        # Only the first frames go on to the later segments, which have many more of them.
        x = segment.layers(x)[:, :, : 16 * EXCERPT]
    return trials


def _numbers(pipeline: TorchPipeline) -> dict[str, float]:
    configs = pipeline.config.numbers
    # What the engine tells the model where a request is silent.
    numbers = {number.id: Number(number.id, number.config.min_val, number.config.max_val).default for number in configs}
    if DURATION in numbers:
        numbers[DURATION] = pipeline.config.window_frames / pipeline.config.sample_rate
    return numbers


def _excerpt(clip: Tensor, index: int) -> Tensor:
    """A piece of a clip, at another place for each: from the start of the first to the end of the last."""
    length = min(EXCERPT, clip.shape[2])
    start = (clip.shape[2] - length) * index // (len(PROMPTS) - 1)
    return clip[:, :, start : start + length].contiguous()


def _tokens(pipeline: TorchPipeline, prompt: str) -> dict[str, Tensor]:
    ids = torch.tensor([pipeline.t5.tokenizer.encode(prompt).ids[: pipeline.config.prompt.config.max_length]])
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
