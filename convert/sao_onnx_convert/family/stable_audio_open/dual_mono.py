"""Autoencoders that do the same to both channels of their audio, each with half of the network.

Such a network has every weight twice and zeros between, and does four times the work that is needed. It is exported as one
half that runs over a batch of twice the size.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from sao_onnx_convert.family.stable_audio_open.networks.autoencoder import Autoencoder, Conv, ConvTranspose, SnakeBeta

Layers = TypeVar("Layers", bound=nn.Module)


class HalfByHalf(nn.Module):
    """One half of a network over both halves of its channels: [b, 2 × inputs, n] to [b, 2 × outputs, m]."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x.reshape(2 * x.shape[0], x.shape[1] // 2, x.shape[2]))
        return y.reshape(x.shape[0], 2 * y.shape[1], y.shape[2])


class HalfByHalfEncoder(nn.Module):
    """The autoencoder of one half of the channels over both: audio to mean and standard deviation of the latents."""

    def __init__(self, autoencoder: Autoencoder) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        mean, stdev = self.autoencoder.encode(audio.reshape(2 * audio.shape[0], audio.shape[1] // 2, audio.shape[2]))
        shape = (audio.shape[0], 2 * mean.shape[1], mean.shape[2])
        return mean.reshape(shape), stdev.reshape(shape)


def halved(layers: nn.Module) -> nn.Module:
    """Layers that do the same to both halves of their channels as `HalfByHalf`; others as they are."""
    return HalfByHalf(_half(layers)) if _has_equal_halves(layers) else layers


def halved_stages(stages: Sequence[nn.Sequential]) -> list[nn.Sequential] | None:
    """One half of every stage, if all of them do the same to both halves of their channels."""
    return [_half(layers) for layers in stages] if all(map(_has_equal_halves, stages)) else None


def halved_autoencoder(model: Autoencoder) -> Autoencoder | None:
    """The autoencoder of one half, if this one is two of them side by side.

    Its latents are means of both halves, then scales of both halves; those of a half are its means, then its scales.
    """
    last = model.encoder.layers[-1]
    outputs = sum(len(parameter) for name, parameter in last.named_parameters() if name == "weight_v")
    # Whole networks are not copied in vain.
    if outputs % 4 or not all(_is_twice(module) for module in model.modules() if module is not last):
        return None
    turned = _half_after_half(model)
    return _half(turned) if _has_equal_halves(turned) else None


def _half_after_half(model: Autoencoder) -> Autoencoder:
    """A copy whose latents are means and scales of one half, then those of the other."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in model.encoder.layers[-1].parameters():
            parts = parameter.reshape(2, 2, len(parameter) // 4, *parameter.shape[1:])
            parameter.copy_(parts.transpose(0, 1).reshape(parameter.shape))
    return model


def _has_equal_halves(layers: nn.Module) -> bool:
    """Whether layers do the same to both halves of their channels, and nothing from one to the other."""
    return all(_is_twice(module) for module in layers.modules())


def _is_twice(module: nn.Module) -> bool:
    """The same of one layer; of what has no weights of its own it is true."""
    if isinstance(module, SnakeBeta):
        return _repeats(module.alpha) and _repeats(module.beta)
    if not isinstance(module, Conv | ConvTranspose):
        return True
    # The parameters themselves: norms of the same numbers in other places may differ in their last bit.
    weight = module.weight_v.detach()
    if weight.shape[0] % 2 or weight.shape[1] % 2:
        return False
    rows, columns = weight.shape[0] // 2, weight.shape[1] // 2
    if weight[:rows, columns:].any() or weight[rows:, :columns].any():
        return False
    alike = torch.equal(weight[:rows, :columns], weight[rows:, columns:]) and _repeats(module.weight_g)
    return alike and (module.bias is None or _repeats(module.bias))


def _repeats(values: Tensor) -> bool:
    return len(values) % 2 == 0 and torch.equal(values[: len(values) // 2], values[len(values) // 2 :])


def _half(layers: Layers) -> Layers:
    """A copy with the first half of every weight."""
    result = copy.deepcopy(layers)
    for module in result.modules():
        if isinstance(module, Conv | ConvTranspose):
            module.weight_v = _first(module.weight_v[:, : module.weight_v.shape[1] // 2])
            module.weight_g = _first(module.weight_g)
            module.bias = None if module.bias is None else _first(module.bias)
        elif isinstance(module, SnakeBeta):
            module.alpha, module.beta = _first(module.alpha), _first(module.beta)
    return result


def _first(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values.detach()[: len(values) // 2].clone(), requires_grad=False)
