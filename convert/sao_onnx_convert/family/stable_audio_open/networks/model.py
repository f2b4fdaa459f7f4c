"""The whole checkpoint as one module, so that `load_state_dict(strict=True)` accounts for every tensor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch
from torch import nn

from sao_onnx_convert.family.stable_audio_open.networks.autoencoder import Autoencoder
from sao_onnx_convert.family.stable_audio_open.networks.conditioners import NumberConditioner, PromptProjection
from sao_onnx_convert.family.stable_audio_open.networks.dit import DiffusionTransformer, rotary_frequencies
from sao_onnx_convert.source.config_fields import ModelConfig, NumberConditionerConfig
from sao_onnx_convert.source.weights import Reading, read_weights


class _Model(nn.Module):
    """Holds a network under the name `model`, as the wrappers of the reference do."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model


class _Conditioner(nn.Module):
    def __init__(self, conditioners: dict[str, nn.Module]) -> None:
        super().__init__()
        self.conditioners = nn.ModuleDict(conditioners)


class AudioModel(nn.Module):
    """DiT, conditioners and autoencoder under the tensor names of the released checkpoint (T5 is not in it).

    Args:
        config: The checkpoint's configuration.
        t5_width: Width of the T5 encoder's embeddings; with `cond_dim` it decides whether there is a `proj_out`.
    """

    def __init__(self, config: ModelConfig, t5_width: int) -> None:
        super().__init__()
        conditioning = config.model.conditioning
        conditioners: dict[str, nn.Module] = {}
        for part in conditioning.configs:
            if isinstance(part, NumberConditionerConfig):
                conditioners[part.id] = NumberConditioner(part, conditioning.cond_dim)
            else:
                conditioners[part.id] = PromptProjection(t5_width, conditioning.cond_dim, part.config.project_out)
        pretransform = config.model.pretransform.config
        self.model = _Model(DiffusionTransformer(config.model.diffusion.config))
        self.conditioner = _Conditioner(conditioners)
        self.pretransform = _Model(Autoencoder(pretransform.encoder.config, pretransform.decoder.config))

    @property
    def dit(self) -> DiffusionTransformer:
        """The diffusion transformer."""
        return cast(DiffusionTransformer, self.model.model)

    @property
    def autoencoder(self) -> Autoencoder:
        """Encoder and decoder."""
        return cast(Autoencoder, self.pretransform.model)

    def number(self, id: str) -> NumberConditioner:
        """The number conditioner called `id`."""
        return cast(NumberConditioner, self.conditioner.conditioners[id])

    def prompt_projection(self, id: str) -> PromptProjection:
        """The projection after the text encoder called `id`."""
        return cast(PromptProjection, self.conditioner.conditioners[id])


def outline(config: ModelConfig, t5_width: int) -> AudioModel:
    """The networks of a checkpoint without their weights and without memory, on the device `meta`."""
    with torch.device("meta"):
        return AudioModel(config, t5_width)


def load_model(
    config: ModelConfig,
    t5_width: int,
    path: Path,
    *,
    base: Path | None = None,
    average: bool = True,
    told: Callable[[Reading], None] = lambda reading: None,
) -> AudioModel:
    """The networks of a checkpoint with its weights in single precision.

    Args:
        config: The checkpoint's configuration.
        t5_width: Channels of the T5 encoder's embeddings.
        path: Its weights. If they are sharded, the name of the index without `.index.json`.
        base: Weights of another checkpoint, for the parts that are not in the first.
        average: Take averaged weights (EMA) where there are some.
        told: Is called with what was read.

    Raises:
        CheckpointError: As `read_weights` does.
    """
    model = outline(config, t5_width)  # No memory is taken before the sizes have been compared with the file's.
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    reading = read_weights(expected, path, rotary_frequencies, base=base, average=average)
    told(reading)
    model.load_state_dict(reading.tensors, strict=True, assign=True)
    return model.eval().requires_grad_(False)
