"""Autoencoders that do the same to both channels of their audio, each with half of the network.

Such a network has every weight twice and zeros between, and does four times the work that is needed. It is exported as one
half that runs over a batch of twice the size.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from sao_onnx_convert.networks.autoencoder import Autoencoder, Conv, ConvTranspose, SnakeBeta


class HalfByHalf(nn.Module):
    """One half of a network over both halves of its channels: [b, 2 × inputs, n] to [b, 2 × outputs, m]."""

    def __init__(self, half: nn.Module) -> None:
        super().__init__()
        self.half = half

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.half(x.reshape(2 * x.shape[0], x.shape[1] // 2, x.shape[2]))
        return y.reshape(x.shape[0], 2 * y.shape[1], y.shape[2])


def halved(layers: nn.Module) -> nn.Module:
    """Layers that do the same to both halves of their channels as `HalfByHalf`; others as they are."""
    half = _half(layers)
    return layers if half is None else HalfByHalf(half)


def halved_autoencoder(model: Autoencoder) -> Autoencoder | None:
    """The autoencoder of one half, if this one is two of them side by side.

    Its latents are means of both halves, then scales of both halves; those of a half are its means, then its scales.
    """
    half = _half(_by_half(model))
    return half if isinstance(half, Autoencoder) else None


def _by_half(model: Autoencoder) -> Autoencoder:
    """A copy whose latents are means and scales of one half, then those of the other."""
    model = copy.deepcopy(model)
    last = model.encoder.layers[-1]
    with torch.no_grad():
        for parameter in last.parameters():
            parts = parameter.reshape(2, 2, len(parameter) // 4, *parameter.shape[1:])
            parameter.copy_(parts.transpose(0, 1).reshape(parameter.shape))
    return model


def _half(layers: nn.Module) -> nn.Module | None:
    """A copy with the first half of every weight, or none if the halves differ or have to do with each other."""
    result = copy.deepcopy(layers)
    for module in result.modules():
        if isinstance(module, Conv | ConvTranspose):
            weight = module.weight.detach()
            rows, columns = weight.shape[0] // 2, weight.shape[1] // 2
            first, second = weight[:rows, :columns], weight[rows:, columns:]
            between = weight[:rows, columns:].any() or weight[rows:, :columns].any()
            if weight.shape[0] % 2 or weight.shape[1] % 2 or between or not torch.equal(first, second):
                return None
            module.weight_v = nn.Parameter(first.clone())
            module.weight_g = nn.Parameter(first.flatten(1).norm(dim=1)[:, None, None])
            if module.bias is not None:
                if not _same_halves(module.bias):
                    return None
                module.bias = nn.Parameter(module.bias.detach()[: len(module.bias) // 2].clone())
        elif isinstance(module, SnakeBeta):
            if not (_same_halves(module.alpha) and _same_halves(module.beta)):
                return None
            count = len(module.alpha) // 2
            module.alpha = nn.Parameter(module.alpha.detach()[:count].clone())
            module.beta = nn.Parameter(module.beta.detach()[:count].clone())
    return result


def _same_halves(values: Tensor) -> bool:
    return len(values) % 2 == 0 and torch.equal(values[: len(values) // 2], values[len(values) // 2 :])
