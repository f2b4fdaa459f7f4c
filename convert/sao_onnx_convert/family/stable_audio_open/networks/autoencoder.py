"""The Oobleck autoencoder: audio to latents and back.

Written after the configuration and the tensor names of the released checkpoint. It computes what `OobleckEncoder`,
`OobleckDecoder` and `VAEBottleneck` of stable-audio-tools 0.0.19 compute. Its layers are weight-normalised convolutions and
Snake activations; every block of the decoder is a Snake, a transposed convolution and three residual units.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sao_onnx_convert.source.config_fields import OobleckDecoderConfig, OobleckEncoderConfig

DILATIONS = (1, 3, 9)
KERNEL = 7

MIN_DIVISOR = 1e-9
"""Added to β before it divides, as in the reference."""


class SnakeBeta(nn.Module):
    """Periodic activation `x + sin²(αx) / β`, α and β per channel, stored as logarithms.

    Ziyin et al., "Neural networks fail to learn periodic functions and how to fix it" (2020), with the separate
    magnitude β of BigVGAN.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        alpha = self.alpha.exp()[:, None]
        beta = self.beta.exp()[:, None]
        return x + (1.0 / (beta + MIN_DIVISOR)) * torch.sin(x * alpha).square()


class Snake(nn.Module):
    """`SnakeBeta` for inference: `x + m·sin²(αx)`, with α and m = 1/β stored as they are."""

    alpha: Tensor
    magnitude: Tensor

    def __init__(self, source: SnakeBeta) -> None:
        super().__init__()
        self.register_buffer("alpha", source.alpha.detach().exp()[:, None])
        self.register_buffer("magnitude", 1.0 / (source.beta.detach().exp()[:, None] + MIN_DIVISOR))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.magnitude * torch.sin(x * self.alpha).square()


class WeightNormConv(nn.Module):
    """A convolution whose weight is `g · v / ‖v‖`, the norm taken over all axes but the first.

    Args:
        shape: Of the weight.
        bias: Size of the bias; None for no bias.
    """

    def __init__(self, shape: tuple[int, int, int], bias: int | None) -> None:
        super().__init__()
        self.weight_g = nn.Parameter(torch.ones(shape[0], 1, 1))
        self.weight_v = nn.Parameter(torch.empty(shape))
        self.bias = None if bias is None else nn.Parameter(torch.zeros(bias))
        nn.init.kaiming_uniform_(self.weight_v, a=math.sqrt(5))
        with torch.no_grad():
            self.weight_g.copy_(self.weight_v.flatten(1).norm(dim=1)[:, None, None])

    @property
    def weight(self) -> Tensor:
        """The weight in use."""
        weight: Tensor = self.weight_v * (self.weight_g / self.weight_v.flatten(1).norm(dim=1)[:, None, None])
        return weight


class Conv(WeightNormConv):
    """Weight-normalised one-dimensional convolution."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, dilation: int = 1, padding: int = 0, bias: bool = True
    ) -> None:
        super().__init__((outputs, inputs, kernel), outputs if bias else None)
        self.stride, self.dilation, self.padding = stride, dilation, padding

    def forward(self, x: Tensor) -> Tensor:
        return F.conv1d(x, self.weight, self.bias, self.stride, self.padding, self.dilation)


class ConvTranspose(WeightNormConv):
    """Weight-normalised transposed convolution that upsamples by `stride` with a kernel of twice that."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__((inputs, outputs, 2 * stride), outputs)
        self.stride, self.padding = stride, math.ceil(stride / 2)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv_transpose1d(x, self.weight, self.bias, self.stride, self.padding)


class _Layers(nn.Module):
    """A sequence under the name `layers`, as in the checkpoint."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return y


class ResidualUnit(_Layers):
    """Snake, dilated convolution, Snake, 1×1 convolution, around a skip connection."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__(
            SnakeBeta(channels),
            Conv(channels, channels, KERNEL, dilation=dilation, padding=dilation * (KERNEL - 1) // 2),
            SnakeBeta(channels),
            Conv(channels, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


class EncoderBlock(_Layers):
    """Three residual units, then a strided convolution."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__(
            *(ResidualUnit(inputs, dilation) for dilation in DILATIONS),
            SnakeBeta(inputs),
            Conv(inputs, outputs, 2 * stride, stride=stride, padding=math.ceil(stride / 2)),
        )


class DecoderBlock(_Layers):
    """A transposed convolution, then three residual units."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__(
            SnakeBeta(inputs),
            ConvTranspose(inputs, outputs, stride),
            *(ResidualUnit(outputs, dilation) for dilation in DILATIONS),
        )


class Encoder(_Layers):
    """Audio [b, channels, frames] to [b, 2 × latent channels, frames / ratio]: mean and raw scale."""

    def __init__(self, config: OobleckEncoderConfig) -> None:
        widths = [config.channels * m for m in (1, *config.c_mults)]
        super().__init__(
            Conv(config.in_channels, widths[0], KERNEL, padding=KERNEL // 2),
            *(EncoderBlock(a, b, s) for a, b, s in zip(widths[:-1], widths[1:], config.strides, strict=True)),
            SnakeBeta(widths[-1]),
            Conv(widths[-1], config.latent_dim, 3, padding=1),
        )


class Decoder(_Layers):
    """Latents [b, latent channels, n] to audio [b, channels, ratio × n] (shorter by a few frames where a stride is odd)."""

    def __init__(self, config: OobleckDecoderConfig) -> None:
        widths = [config.channels * m for m in (1, *config.c_mults)][::-1]
        super().__init__(
            Conv(config.latent_dim, widths[0], KERNEL, padding=KERNEL // 2),
            *(DecoderBlock(a, b, s) for a, b, s in zip(widths[:-1], widths[1:], config.strides[::-1], strict=True)),
            SnakeBeta(widths[-1]),
            Conv(widths[-1], config.out_channels, KERNEL, padding=KERNEL // 2, bias=False),
            nn.Tanh() if config.final_tanh else nn.Identity(),
        )


@dataclass(frozen=True)
class DecoderSegment:
    """Consecutive layers of the decoder that become one graph.

    Attributes:
        layers: Features to features; the first segment's input is latents, the last one's output is audio.
        rate: Frames of the input for each latent.
        margin: Frames of the input that must be there on each side of a tile, so that what the tile gives is exact.
    """

    layers: nn.Sequential
    rate: int
    margin: int


def split_decoder(decoder: Decoder, strides: tuple[int, ...]) -> list[DecoderSegment]:
    """Cut a decoder into two or three segments.

    Nearly all of the receptive field comes from the first blocks, which work at a low rate, and nearly all of the work is in
    the others. So the first segment runs over the whole clip, and the others run in tiles that hardly overlap. The cuts are
    where the rest of the decoder needs no more than one latent on each side, and where it needs no more than an eighth.

    Args:
        decoder: The whole decoder.
        strides: As in its configuration: those of the blocks in reverse order.
    """
    upsampling, cuts = strides[::-1], decoder_cuts(strides)
    layers = list(decoder.layers)
    # The first convolution is before the blocks, the last activation and convolution are behind them.
    edges = [0, *(cut + 1 for cut in cuts), len(layers)]
    segments = [DecoderSegment(nn.Sequential(*layers[: edges[1]]), 1, 0)]
    for cut, start, stop in zip(cuts, edges[1:-1], edges[2:], strict=True):
        last = stop == len(layers)
        blocks = upsampling[cut:] if last else upsampling[cut : stop - 1]
        rate = math.prod(upsampling[:cut])
        segments.append(DecoderSegment(nn.Sequential(*layers[start:stop]), rate, _margin(blocks, last)))
    return segments


def decoder_cuts(strides: tuple[int, ...]) -> list[int]:
    """The blocks before which `split_decoder` cuts, one or two, counted from 0 in the order in which they run."""
    upsampling = strides[::-1]
    margins = [_margin(upsampling[block:]) / math.prod(upsampling[:block]) for block in range(len(upsampling))]
    cuts = []
    for latents in (1, 1 / 8):
        fitting = [block for block, margin in enumerate(margins) if block > 0 and margin <= latents]
        if fitting and fitting[0] not in cuts:
            cuts.append(fitting[0])
    # Where no block needs as little, the last one runs in tiles anyway.
    return cuts or [len(upsampling) - 1]


def _margin(upsampling: tuple[int, ...], last: bool = True) -> int:
    """Frames on each side that decoder blocks of these strides need for exact output.

    Args:
        upsampling: Strides, in the order in which the blocks run.
        last: Whether the last convolution is behind them.
    """
    margin = KERNEL // 2 if last else 0
    for stride in reversed(upsampling):
        margin += sum(dilation * (KERNEL - 1) // 2 for dilation in DILATIONS)
        padding = math.ceil(stride / 2)
        # An output frame o of the transposed convolution reads the inputs i with 0 <= o + padding - stride * i < 2 * stride.
        left = math.ceil((margin + stride - padding) / stride)
        right = (margin + padding - 1) // stride + 1
        margin = max(left, right)
    return margin


def without_parametrization(module: nn.Module) -> nn.Module:
    """A copy with plain weights only: weight norms are applied, and the activations hold no logarithms.

    Graphs are exported from it, so that nothing of this has to be computed at run time.
    """
    module = copy.deepcopy(module)
    for name, child in module.named_children():
        setattr(module, name, _plain(child) or without_parametrization(child))
    return _plain(module) or module


def _plain(module: nn.Module) -> nn.Module | None:
    plain: nn.Conv1d | nn.ConvTranspose1d
    if isinstance(module, SnakeBeta):
        return Snake(module)
    if isinstance(module, Conv):
        outputs, inputs, kernel = module.weight_v.shape
        sizes = (inputs, outputs, kernel, module.stride, module.padding, module.dilation)
        plain = nn.Conv1d(*sizes, bias=module.bias is not None, device="meta")
    elif isinstance(module, ConvTranspose):
        inputs, outputs, kernel = module.weight_v.shape
        plain = nn.ConvTranspose1d(inputs, outputs, kernel, module.stride, module.padding, device="meta")
    else:
        return None
    plain.weight = nn.Parameter(module.weight.detach(), requires_grad=False)
    if module.bias is not None:
        plain.bias = nn.Parameter(module.bias.detach(), requires_grad=False)
    return plain


class Autoencoder(nn.Module):
    """Encoder and decoder under the names of the checkpoint's `pretransform.model`."""

    def __init__(self, encoder: OobleckEncoderConfig, decoder: OobleckDecoderConfig) -> None:
        super().__init__()
        self.encoder = Encoder(encoder)
        self.decoder = Decoder(decoder)

    def encode(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the latents, each [b, latent channels, n].

        The bottleneck of the reference (`vae_sample`): `stdev = softplus(scale) + 1e-4`.
        """
        mean, scale = self.encoder(audio).chunk(2, dim=1)
        return mean, F.softplus(scale) + 1e-4
