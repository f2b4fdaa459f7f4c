"""The parts of the model that become graphs: the module of each, and its inputs and outputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from sao_onnx.bundle.manifest import DECODER_ROLES, Role
from sao_onnx_convert.export.modules import Axes, export_module, export_text_encoder, save
from sao_onnx_convert.export.part import Part, Sample
from sao_onnx_convert.family.stable_audio_open.dual_mono import DualMonoEncoder, as_dual_mono, mono_autoencoder
from sao_onnx_convert.family.stable_audio_open.networks.autoencoder import (
    DILATIONS,
    KERNEL,
    Autoencoder,
    DecoderSegment,
    without_parametrization,
)
from sao_onnx_convert.family.stable_audio_open.networks.model import AudioModel
from sao_onnx_convert.family.stable_audio_open.text_encoder import T5, TextEncoder
from sao_onnx_convert.family.stable_audio_open.transformer import context_graph, dit_graph
from sao_onnx_convert.source.config_fields import ModelConfig

BATCH: Axes = {0: "batch"}
FRAMES: Axes = {0: "batch", 2: "frames"}


class NumberConditioners(nn.Module):
    """All number conditioners as one module: numbers [b] to tokens [b, 1, width], one of each for every id, in that order."""

    def __init__(self, model: AudioModel, ids: Sequence[str]) -> None:
        super().__init__()
        self.conditioners = nn.ModuleList(model.number(id) for id in ids)

    def forward(self, *numbers: Tensor) -> tuple[Tensor, ...]:
        return tuple(conditioner(number) for conditioner, number in zip(self.conditioners, numbers, strict=True))


class AudioEncoder(nn.Module):
    """Audio [b, channels, frames] to mean and standard deviation of the latents, [b, latent channels, n] each."""

    def __init__(self, autoencoder: Autoencoder) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        return self.autoencoder.encode(audio)


def text_encoder(t5: T5, model: AudioModel, config: ModelConfig) -> Part:
    """Token ids and mask [b, tokens] to embeddings [b, tokens, width]."""
    module = TextEncoder(t5.encoder, model.prompt_projection(config.prompt.id)).eval()

    def sample(batch: int, length: int, random: torch.Generator) -> dict[str, Tensor]:
        length = min(length, config.prompt.config.max_length)
        ids = torch.randint(0, t5.encoder.config.vocab_size, (batch, length), generator=random)
        mask = torch.ones_like(ids)
        mask[-1, (length + 1) // 2 :] = 0
        return {"input_ids": ids, "attention_mask": mask}

    return Part("text_encoder", module, lambda path: export_text_encoder(module, path), ("embeddings",), sample)


def number_conditioner(model: AudioModel, config: ModelConfig) -> Part:
    """Numbers [b] to tokens [b, 1, width], one input and one output for each conditioner."""
    ids = tuple(number.id for number in config.numbers)

    def sample(batch: int, length: int, random: torch.Generator) -> dict[str, Tensor]:
        # Half of the numbers are outside the range, where they must be clamped.
        return {
            number.id: number.config.min_val
            + (number.config.max_val - number.config.min_val) * (2 * torch.rand(batch, generator=random) - 0.5)
            for number in config.numbers
        }

    outputs = tuple(f"{id}_embedding" for id in ids)
    return _exported_part("number_conditioner", NumberConditioners(model, ids), dict.fromkeys(ids, BATCH), outputs, sample)


def context(model: AudioModel, config: ModelConfig) -> Part:
    """Conditioning tokens [b, tokens, width] to the keys and values of the DiT's cross-attention."""
    options = config.model.diffusion.config

    def sample(batch: int, length: int, random: torch.Generator) -> dict[str, Tensor]:
        tokens = config.prompt.config.max_length + 1
        return {"cross_attention": torch.randn(batch, tokens, options.cond_token_dim, generator=random)}

    return Part("context", model.dit.context, lambda path: save(context_graph(model.dit), path), ("keys", "values"), sample)


def dit(model: AudioModel, config: ModelConfig) -> Part:
    """Latents [b, channels, n], times [b], keys, values and the global condition to a velocity [b, channels, n]."""
    options = config.model.diffusion.config

    def sample(batch: int, length: int, random: torch.Generator) -> dict[str, Tensor]:
        keys = (options.depth, batch, config.prompt.config.max_length + 1, options.embed_dim)
        return {
            "latents": torch.randn(batch, options.io_channels, min(length, config.window), generator=random),
            "times": torch.rand(batch, generator=random),
            "keys": torch.randn(keys, generator=random),
            "values": torch.randn(keys, generator=random),
            "global_condition": torch.randn(batch, options.global_cond_dim, generator=random),
        }

    return Part("dit", model.dit.velocity, lambda path: save(dit_graph(model.dit, config.window), path), ("velocity",), sample)


def decoder(segments: Sequence[DecoderSegment], config: ModelConfig) -> list[Part]:
    """A part for each segment: latents to features, features to features of a higher rate, features to audio."""
    channels = config.model.pretransform.config.latent_dim
    names = ["latents", *(f"features_{i}" for i in range(1, len(segments))), "audio"]

    def prepare(layers: nn.Module) -> nn.Module:
        return without_parametrization(as_dual_mono(layers))

    def sampler(index: int) -> Sample:
        def sample(batch: int, length: int, random: torch.Generator) -> dict[str, Tensor]:
            x = torch.randn(batch, channels, length, generator=random)
            with torch.no_grad():
                for segment in segments[:index]:
                    # The first frames are enough: later segments have many more of them, and would take the most time.
                    x = segment.layers(x)[:, :, : 8 * length]
            return {names[index]: x}

        return sample

    return [
        _exported_part(role, segment.layers, {names[i]: FRAMES}, (names[i + 1],), sampler(i), prepare)
        for i, (role, segment) in enumerate(zip(DECODER_ROLES, segments, strict=False))
    ]


def encoder(model: AudioModel, config: ModelConfig) -> Part:
    """Audio [b, channels, frames] to mean and standard deviation of the latents, [b, latent channels, n] each."""
    ratio = config.model.pretransform.config.downsampling_ratio

    def sample(batch: int, length: int, random: torch.Generator) -> dict[str, Tensor]:
        return {"audio": 0.3 * torch.randn(batch, config.channels, ratio * length, generator=random)}

    def prepare(module: nn.Module) -> nn.Module:
        mono = mono_autoencoder(model.autoencoder)
        return without_parametrization(module if mono is None else DualMonoEncoder(mono))

    return _exported_part("encoder", AudioEncoder(model.autoencoder), {"audio": FRAMES}, ("mean", "stdev"), sample, prepare)


def encoder_margin(strides: Sequence[int]) -> int:
    """Latents on each side of a stretch of audio on which the encoder's output for it depends.

    Args:
        strides: Of the encoder's blocks, in the order in which they run.
    """
    # Frames before and after the stretch, from the last convolution, which has a kernel of three, to the first.
    before = after = 1
    for stride in reversed(strides):
        padding = math.ceil(stride / 2)
        # The strided convolution has a kernel of two strides.
        before = before * stride + padding
        after = after * stride + stride - padding
        for dilation in DILATIONS:
            before += dilation * (KERNEL - 1) // 2
            after += dilation * (KERNEL - 1) // 2
    return math.ceil((max(before, after) + KERNEL // 2) / math.prod(strides))


def _exported_part(
    role: Role,
    module: nn.Module,
    axes: Mapping[str, Axes],
    outputs: tuple[str, ...],
    sample: Sample,
    prepare: Callable[[nn.Module], nn.Module] = lambda module: module,
) -> Part:
    """A part that torch's exporter writes, from what `prepare` makes of the module."""
    module = module.eval()

    def export(path: Path) -> None:
        # Two and nine: the exporter takes a size of one, or two equal sizes, for a constant.
        example = sample(2, 9, torch.Generator().manual_seed(0))
        export_module(prepare(module), path, {name: (example[name], axes[name]) for name in axes}, outputs)

    return Part(role, module, export, outputs, sample)
