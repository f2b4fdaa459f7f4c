"""The graphs that a bundle is made of: which module each comes from, and what goes in and out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from sao_onnx.bundle.manifest import DECODER_ROLES, Role
from sao_onnx_convert.export.modules import Axes, export_module, export_text_encoder, save
from sao_onnx_convert.export.part import Part, Sample
from sao_onnx_convert.family.stable_audio_open.dual_mono import HalfByHalfEncoder, halved, halved_autoencoder
from sao_onnx_convert.family.stable_audio_open.networks.autoencoder import Autoencoder, Stage, without_parametrization
from sao_onnx_convert.family.stable_audio_open.networks.model import AudioModel
from sao_onnx_convert.family.stable_audio_open.text_encoder import Text, TextEncoder
from sao_onnx_convert.family.stable_audio_open.transformer import context_graph, dit_graph
from sao_onnx_convert.source.config_fields import ModelConfig

BATCH: Axes = {0: "batch"}
FRAMES: Axes = {0: "batch", 2: "frames"}


class NumberConditioners(nn.Module):
    """Every number conditioner as one module: numbers [b] each to tokens [b, 1, width] each, in the order of the ids."""

    def __init__(self, model: AudioModel, ids: tuple[str, ...]) -> None:
        super().__init__()
        self.conditioners = nn.ModuleList(model.number(id) for id in ids)

    def forward(self, *numbers: Tensor) -> tuple[Tensor, ...]:
        return tuple(conditioner(number) for conditioner, number in zip(self.conditioners, numbers, strict=True))


class AudioEncoder(nn.Module):
    """Audio to mean and standard deviation of the latents."""

    def __init__(self, autoencoder: Autoencoder) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        return self.autoencoder.encode(audio)


def text_encoder(text: Text, model: AudioModel, config: ModelConfig) -> Part:
    """Ids and mask [b, tokens] to embeddings [b, tokens, width]."""
    module = TextEncoder(text.encoder, model.prompt_projection(config.prompt.id)).eval()

    def sample(batch: int, length: int, random: torch.Generator) -> dict[str, Tensor]:
        length = min(length, config.prompt.config.max_length)
        ids = torch.randint(0, text.encoder.config.vocab_size, (batch, length), generator=random)
        mask = torch.ones_like(ids)
        mask[-1, (length + 1) // 2 :] = 0
        return {"input_ids": ids, "attention_mask": mask}

    return Part("text_encoder", module, lambda path: export_text_encoder(module, path), ("embeddings",), sample)


def number_conditioner(model: AudioModel, config: ModelConfig) -> Part:
    """Numbers [b] to tokens [b, 1, width], one input and one output for each conditioner."""
    ids = tuple(number.id for number in config.numbers)

    def sample(batch: int, length: int, random: torch.Generator) -> dict[str, Tensor]:
        # Half of the draws lie outside the range, where they must be clamped.
        return {
            number.id: number.config.min_val
            + (number.config.max_val - number.config.min_val) * (2 * torch.rand(batch, generator=random) - 0.5)
            for number in config.numbers
        }

    return _part(
        "number_conditioner",
        NumberConditioners(model, ids),
        dict.fromkeys(ids, BATCH),
        tuple(f"{id}_embedding" for id in ids),
        sample,
    )


def context(model: AudioModel, config: ModelConfig) -> Part:
    """Conditioning tokens to the keys and values of the DiT's cross-attention."""
    options = config.model.diffusion.config

    def sample(batch: int, length: int, random: torch.Generator) -> dict[str, Tensor]:
        tokens = config.prompt.config.max_length + 1
        return {"cross_attention": torch.randn(batch, tokens, options.cond_token_dim, generator=random)}

    return Part("context", model.dit.context, lambda path: save(context_graph(model.dit), path), ("keys", "values"), sample)


def dit(model: AudioModel, config: ModelConfig) -> Part:
    """Latents, times, keys, values and the global condition to a velocity."""
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


def decoder(stages: list[Stage], config: ModelConfig) -> list[Part]:
    """Latents to features, features to features of a higher rate, features to audio."""
    channels = config.model.pretransform.config.latent_dim

    def prepare(layers: nn.Module) -> nn.Module:
        return without_parametrization(halved(layers))

    def sampler(index: int) -> Sample:
        def sample(batch: int, length: int, random: torch.Generator) -> dict[str, Tensor]:
            x = torch.randn(batch, channels, length, generator=random)
            with torch.no_grad():
                for stage in stages[:index]:
                    # Later stages are tried on the first few frames, or their trials would take longer than all others.
                    x = stage.layers(x)[:, :, : 8 * length]
            return {names[index]: x}

        return sample

    names = ["latents", *(f"features_{i}" for i in range(1, len(stages))), "audio"]
    return [
        _part(role, stage.layers, {names[i]: FRAMES}, (names[i + 1],), sampler(i), prepare)
        for i, (role, stage) in enumerate(zip(DECODER_ROLES, stages, strict=False))
    ]


def encoder(model: AudioModel, config: ModelConfig) -> Part:
    """Audio to mean and standard deviation of the latents."""
    ratio = config.model.pretransform.config.downsampling_ratio

    def sample(batch: int, length: int, random: torch.Generator) -> dict[str, Tensor]:
        return {"audio": 0.3 * torch.randn(batch, config.channels, ratio * length, generator=random)}

    def prepare(module: nn.Module) -> nn.Module:
        half = halved_autoencoder(model.autoencoder)
        return without_parametrization(module if half is None else HalfByHalfEncoder(half))

    return _part("encoder", AudioEncoder(model.autoencoder), {"audio": FRAMES}, ("mean", "stdev"), sample, prepare)


def _part(
    role: Role,
    module: nn.Module,
    axes: dict[str, Axes],
    outputs: tuple[str, ...],
    sample: Sample,
    prepare: Callable[[nn.Module], nn.Module] = lambda module: module,
) -> Part:
    module = module.eval()

    def export(path: Path) -> None:
        # Two and nine: the exporter takes a size of one, or two equal ones, for a constant.
        example = sample(2, 9, torch.Generator().manual_seed(0))
        export_module(prepare(module), path, {name: (example[name], axes[name]) for name in axes}, outputs)

    return Part(role, module, export, outputs, sample)
