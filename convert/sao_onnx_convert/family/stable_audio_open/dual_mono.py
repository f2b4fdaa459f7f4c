"""Dual mono autoencoders: networks that do the same to the left and to the right channel, and nothing between them.

Such a network holds every weight twice, with zeros between, and does four times the work that is needed. It is exported as the
mono network alone, which runs over a batch of twice the size. Channels here are those of every layer: the first half of them
belongs to the first audio channel.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from sao_onnx_convert.family.stable_audio_open.networks.autoencoder import Autoencoder, Conv, ConvTranspose, SnakeBeta

Layers = TypeVar("Layers", bound=nn.Module)


class DualMono(nn.Module):
    """Mono layers over both halves of the channels: [b, 2 × inputs, n] to [b, 2 × outputs, m]."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x.reshape(2 * x.shape[0], x.shape[1] // 2, x.shape[2]))
        return y.reshape(x.shape[0], 2 * y.shape[1], y.shape[2])


class DualMonoEncoder(nn.Module):
    """A mono autoencoder's encoder over both channels.

    Audio [b, 2, frames] to mean and standard deviation of the latents, [b, 2 × latent channels, n] each.
    """

    def __init__(self, autoencoder: Autoencoder) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        mean, stdev = self.autoencoder.encode(audio.reshape(2 * audio.shape[0], audio.shape[1] // 2, audio.shape[2]))
        shape = (audio.shape[0], 2 * mean.shape[1], mean.shape[2])
        return mean.reshape(shape), stdev.reshape(shape)


def as_dual_mono(layers: nn.Module) -> nn.Module:
    """Layers that are dual mono as `DualMono`, which computes the same with less work; other layers as they are."""
    return DualMono(_mono(layers)) if _is_dual_mono(layers) else layers


def mono_layers(parts: Sequence[nn.Sequential]) -> list[nn.Sequential] | None:
    """The mono network of each part, if all parts are dual mono; otherwise None."""
    return [_mono(layers) for layers in parts] if all(map(_is_dual_mono, parts)) else None


def mono_autoencoder(model: Autoencoder) -> Autoencoder | None:
    """The mono autoencoder inside a dual mono one; None if this one is not dual mono.

    The encoder's last layer gives the means of both halves of the latents, then the scales of both. Only that layer's outputs
    have to be put in another order, so that the halves are apart.
    """
    last = model.encoder.layers[-1]
    outputs = sum(len(parameter) for name, parameter in last.named_parameters() if name == "weight_v")
    # Looked at first, because copying a whole network takes memory and time.
    if outputs % 4 or not all(_layer_is_dual_mono(module) for module in model.modules() if module is not last):
        return None
    reordered = _with_halves_apart(model)
    return _mono(reordered) if _is_dual_mono(reordered) else None


def _with_halves_apart(model: Autoencoder) -> Autoencoder:
    """A copy whose encoder gives means and scales of the first half of the latents, then those of the second."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in model.encoder.layers[-1].parameters():
            parts = parameter.reshape(2, 2, len(parameter) // 4, *parameter.shape[1:])
            parameter.copy_(parts.transpose(0, 1).reshape(parameter.shape))
    return model


def _is_dual_mono(layers: nn.Module) -> bool:
    """Whether layers do the same to both halves of their channels, and nothing from one to the other."""
    return all(_layer_is_dual_mono(module) for module in layers.modules())


def _layer_is_dual_mono(module: nn.Module) -> bool:
    """The same for one layer. A layer without weights of its own is dual mono."""
    if isinstance(module, SnakeBeta):
        return _halves_are_equal(module.alpha) and _halves_are_equal(module.beta)
    if not isinstance(module, Conv | ConvTranspose):
        return True
    # Parameters are compared, not the weights that they give: norms of the same numbers may differ in their last bit.
    weight = module.weight_v.detach()
    if weight.shape[0] % 2 or weight.shape[1] % 2:
        return False
    rows, columns = weight.shape[0] // 2, weight.shape[1] // 2
    if weight[:rows, columns:].any() or weight[rows:, :columns].any():
        return False
    equal = torch.equal(weight[:rows, :columns], weight[rows:, columns:]) and _halves_are_equal(module.weight_g)
    return equal and (module.bias is None or _halves_are_equal(module.bias))


def _halves_are_equal(values: Tensor) -> bool:
    return len(values) % 2 == 0 and torch.equal(values[: len(values) // 2], values[len(values) // 2 :])


def _mono(layers: Layers) -> Layers:
    """A copy with the first half of every weight."""
    result = copy.deepcopy(layers)
    for module in result.modules():
        if isinstance(module, Conv | ConvTranspose):
            module.weight_v = _first_half(module.weight_v[:, : module.weight_v.shape[1] // 2])
            module.weight_g = _first_half(module.weight_g)
            module.bias = None if module.bias is None else _first_half(module.bias)
        elif isinstance(module, SnakeBeta):
            module.alpha, module.beta = _first_half(module.alpha), _first_half(module.beta)
    return result


def _first_half(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values.detach()[: len(values) // 2].clone(), requires_grad=False)
