"""An autoencoder that works before it is trained: its strided convolutions are lapped transforms.

From random weights an Oobleck autoencoder learns silence first, and stays there for long: whatever its decoder says is
unrelated to its input, so less of it is better. Here each strided convolution of the encoder is a modified discrete cosine
transform (Princen and Bradley, 1986) of the channels before it, followed by the principal components of the result on sounds,
and each transposed convolution of the decoder is its transpose, hence its inverse on what was kept. Everything else is close
to the identity. What training starts from is the best linear code of its kind.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from sao_onnx_convert.family.stable_audio_open.networks.autoencoder import Autoencoder, ResidualUnit, SnakeBeta

_SMALL = 0.1


def initialize(model: Autoencoder, audio: Tensor, strides: tuple[int, ...]) -> None:
    """Give an autoencoder the weights that training starts from.

    Args:
        model: Untrained; changed in place.
        audio: What the components are taken from, float32 [b, channels, frames].
        strides: Of the encoder.
    """
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, SnakeBeta):
                # Nearly linear.
                module.alpha.fill_(math.log(0.3))
                module.beta.fill_(math.log(2.0))
            if isinstance(module, ResidualUnit):
                cast(Any, module.layers[-1]).weight_g.mul_(_SMALL)
        # As loud as each other, because losses are relative.
        size = audio.square().mean((1, 2), keepdim=True).sqrt().clamp(min=0.01)
        _set_all(model, audio / size * size.mean(), strides)


def _set_all(model: Autoencoder, audio: Tensor, strides: tuple[int, ...]) -> None:
    encoder, decoder = cast(Any, model.encoder.layers), cast(Any, model.decoder.layers)
    _pass(encoder[0], audio.shape[1])
    _pass(decoder[-2], audio.shape[1])
    x, used = encoder[0](audio), audio.shape[1]
    for index, stride in enumerate(strides):
        analysis, synthesis = encoder[index + 1].layers[-1], decoder[-4 - index].layers[1]
        x = encoder[index + 1].layers[:-1](x)
        basis = _components(x[:, :used], stride, len(analysis.weight_v))
        count = len(basis)
        # All of one size on average; the fine ones raised by half of what they are below the others.
        found = nn.functional.conv1d(x[:, :used], basis, stride=stride, padding=stride // 2)
        scale = found.std((0, 2)).clamp(min=1e-4).sqrt() * found.std((0, 2)).square().mean().sqrt().sqrt()
        _set(analysis, basis / scale[:, None, None], count, used)
        _set(synthesis, basis * scale[:, None, None], count, used)
        # Activations are not centred: components are of what varies.
        analysis.bias[:count] = -found.mean((0, 2)) / scale
        synthesis.bias[:used] = x[:, :used].mean((0, 2)) if index else 0.0
        x, used = analysis(x), count
    x = encoder[-2](x)
    latents = len(encoder[-1].weight_v) // 2
    scale = x[:, :latents].std((0, 2))
    centre = nn.functional.one_hot(torch.tensor(1), 3).float()
    _set(encoder[-1], torch.eye(latents)[:, :, None] * centre / scale[:, None, None], latents, latents)
    encoder[-1].bias[latents:] = -2.5
    wide = nn.functional.one_hot(torch.tensor(3), 7).float()
    _set(decoder[0], torch.eye(latents)[:, :, None] * wide * scale[:, None, None], latents, latents)


def _pass(conv: Any, count: int) -> None:
    """Let the first `count` channels through as they are."""
    kernel = conv.weight_v.shape[-1]
    delta = nn.functional.one_hot(torch.tensor(kernel // 2), kernel).float()
    _set(conv, torch.eye(count)[:, :, None] * delta, count, count)


def _set(conv: Any, weight: Tensor, first: int, second: int) -> None:
    """A weight for the first channels of both sides, and little of what there was for the others."""
    value = conv.weight * _SMALL
    value[:first] *= 0.0
    value[:first, :second] = weight
    conv.weight_v.copy_(value)
    conv.weight_g.copy_(value.flatten(1).norm(dim=1)[:, None, None])
    if conv.bias is not None:
        conv.bias.zero_()


def _components(x: Tensor, stride: int, count: int) -> Tensor:
    """Orthonormal kernels, the most telling first: [at most count, channels, 2 × stride]."""
    channels = x.shape[1]
    n, k = torch.arange(2 * stride), torch.arange(stride)
    window = torch.sin(math.pi / (2 * stride) * (n + 0.5))
    cosines = math.sqrt(2 / stride) * window * torch.cos(math.pi / stride * (n + 0.5 + stride / 2) * (k[:, None] + 0.5))
    found = nn.functional.conv1d(x.flatten(0, 1)[:, None], cosines[:, None], stride=stride, padding=stride // 2)
    flat = found.reshape(-1, channels, *found.shape[1:]).permute(0, 3, 1, 2).flatten(0, 1).flatten(1)
    _, vectors = torch.linalg.eigh(flat.T.cov().double())
    best = vectors.flip(1)[:, : min(count, flat.shape[1])].float().reshape(channels, stride, -1)
    return torch.einsum("cko,kn->ocn", best, cosines)
