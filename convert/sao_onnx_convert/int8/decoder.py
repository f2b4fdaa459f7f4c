"""The decoder in 8 bits.

Convolutions are `QLinearConv` with unsigned activations and signed weights of one scale per output channel, the pair that ONNX
Runtime's kernels are fastest with on x86 and that avoids scalar code on Arm. Between them, activations are single precision.

How a value is stored: `real = scale[c] · (code − zero[c])`, `code` in 0 to 255, scale and zero point of each channel its own.
ONNX allows that for `QuantizeLinear` and `DequantizeLinear`. `QLinearConv` wants one scale for its whole input and output, so
the channels' scales are folded into its weights (input side) and into its weight scales (output side), which are of one channel
each.

Snake is `x + m·sin²(αx) = x + m/2 − m/2·cos(2αx)`. In this form
- the scale 2α of the phase is the scale of a second `DequantizeLinear` of the same code, where there is a code;
- m/2 is the unit in which x is dequantized and the result quantized, so nothing multiplies the cosine;
- the constant m/2 is left out, and made good by the zero point of the quantized result (in whole steps) and by the bias of the
  convolution behind it (the rest of a step).
A transposed convolution is a convolution with stride × channels outputs over pairs of input frames, whose outputs are
interleaved while they are still 8 bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import onnx
from torch import Tensor, nn

from sao_onnx_convert.int8.graph import MICROSOFT, GraphBuilder
from sao_onnx_convert.int8.matmul import blocks
from sao_onnx_convert.networks.autoencoder import DecoderBlock, ResidualUnit, Snake

Array = np.ndarray[Any, np.dtype[Any]]

STEPS = 255
MIDDLE = 128
TINY = 1e-9
LAST = np.iinfo(np.int64).max

ACCURATE = 1
"""`MatMulNBits` in single-precision arithmetic."""


@dataclass(frozen=True)
class Range:
    """Least and largest value of each channel that was seen, float64 [channels]."""

    low: Array
    high: Array


class Observer:
    """Records the range of every Snake's and convolution's output while a module runs."""

    def __init__(self, module: nn.Module) -> None:
        self._ranges: dict[nn.Module, Range] = {}
        self._hooks = [
            child.register_forward_hook(self._record)
            for child in module.modules()
            if isinstance(child, (Snake, nn.Conv1d, nn.ConvTranspose1d))
        ]

    def _record(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        low, high = (t.double().numpy() for t in (output.amin(dim=(0, 2)), output.amax(dim=(0, 2))))
        if module in self._ranges:
            seen = self._ranges[module]
            low, high = np.minimum(low, seen.low), np.maximum(high, seen.high)
        self._ranges[module] = Range(low, high)

    def finish(self) -> dict[nn.Module, Range]:
        """What was seen; nothing more is recorded."""
        for hook in self._hooks:
            hook.remove()
        return self._ranges


@dataclass(frozen=True)
class Code:
    """An 8-bit value in a graph: `real = scale[c] · (code − zero[c]) + rest[c]`."""

    name: str
    scale: Array
    zero: Array
    rest: Array


class DecoderBuilder:
    """Builds one of the decoder's graphs from its layers.

    Args:
        ranges: Of every Snake and convolution, from calibration.
    """

    def __init__(self, ranges: dict[nn.Module, Range]) -> None:
        self._graph = GraphBuilder()
        self._ranges = ranges

    def build(self, layers: nn.Sequential, source: str, target: str) -> onnx.ModelProto:
        """The graph of a run of the decoder's layers, from the input `source` to the output `target`."""
        x, behind_conv = source, False
        for layer in layers:
            if isinstance(layer, DecoderBlock):
                # Measured: 8 bits at the first block's upsampling cost more than all others together, and it is little work.
                x = self._block(x, layer, wide=behind_conv)
            elif isinstance(layer, Snake):
                x = self._snake(x, layer)
            elif isinstance(layer, nn.Conv1d):
                # The first convolution of all and the last: little work, and the last one's output is the audio itself.
                x = self._wide_conv(x, layer)
            elif isinstance(layer, nn.Tanh):
                x = self._graph.node("Tanh", x)
            behind_conv = isinstance(layer, nn.Conv1d)
        self._graph.node("Identity", x, output=target)
        convs = [child for child in layers.modules() if isinstance(child, (nn.Conv1d, nn.ConvTranspose1d))]
        shapes = {source: convs[0].in_channels, target: convs[-1].out_channels}
        return self._graph.model(
            "decoder", [source], [target], {name: ("batch", width, f"{name}_frames") for name, width in shapes.items()}
        )

    def _block(self, x: str, block: DecoderBlock, wide: bool) -> str:
        snake, upsample, *units = cast(Any, block.layers)
        x = self._wide_upsample(x, snake, upsample) if wide else self._upsample(x, snake, upsample)
        for unit in units:
            x = self._unit(x, unit)
        return x

    def _unit(self, x: str, unit: ResidualUnit) -> str:
        first, dilated, second, pointwise = cast(Any, unit.layers)
        inner = self._conv(self._quantized_snake(x, first), dilated)
        outer = self._conv(self._quantized_snake_of_code(inner, second), pointwise)
        return self._graph.node("Add", x, self._dequantize(outer, outer.scale))

    def _snake(self, x: str, snake: Snake) -> str:
        """Snake of a single-precision value, in single precision."""
        return self._graph.node("Add", self._snake_but_constant(x, snake), self._channels(_parameters(snake)[1]))

    def _snake_but_constant(self, x: str, snake: Snake) -> str:
        """Snake of a single-precision value less m/2."""
        alpha, half = _parameters(snake)
        cosine = self._graph.node("Cos", self._scaled(x, 2 * alpha))
        return self._graph.node("Sub", x, self._scaled(cosine, half))

    def _quantized_snake(self, x: str, snake: Snake) -> Code:
        """Snake of a single-precision value, quantized for a convolution with padding."""
        half = _parameters(snake)[1]
        return self._quantize(self._snake_but_constant(x, snake), self._ranges[snake], half, np.ones_like(half), padded=True)

    def _quantized_snake_of_code(self, x: Code, snake: Snake) -> Code:
        """Snake of an 8-bit value, quantized for a convolution without padding."""
        alpha, half = _parameters(snake)
        cosine = self._graph.node("Cos", self._dequantize(x, 2 * alpha * x.scale))
        y = self._graph.node("Sub", self._dequantize(x, x.scale / half), cosine)
        return self._quantize(y, self._ranges[snake], half, half, padded=False)

    def _quantize(self, y: str, range: Range, missing: Array, unit: Array, padded: bool) -> Code:
        """Quantize `y`, of which `unit · y + missing` is the real value.

        For a convolution with padding the codes must have one zero point, because it pads with it; otherwise each channel gets
        its own.
        """
        low, high = np.minimum(range.low, 0), np.maximum(range.high, 0)
        if padded:
            zero = _common_zero(low, high, missing)
            scale = np.maximum(np.maximum(high / (STEPS - zero), -low / max(zero, TINY)), missing / (STEPS - zero))
            scale = np.maximum(scale, TINY)
            shift = np.round(missing / scale)
            zeros = np.full_like(scale, zero)
        else:
            low, high = np.minimum(range.low - missing, 0), np.maximum(range.high - missing, 0)
            scale = np.maximum((high - low) / STEPS, TINY)
            zeros, shift = np.round(-low / scale), np.zeros_like(scale)
        name = self._graph.node(
            "QuantizeLinear",
            y,
            self._graph.constant((scale / unit).astype(np.float32)),
            self._graph.constant((zeros + shift).astype(np.uint8)),
            axis=1,
        )
        return Code(name, scale, zeros, missing - shift * scale)

    def _conv(self, x: Code, conv: nn.Conv1d) -> Code:
        padding, dilation = int(conv.padding[0]), int(conv.dilation[0])
        weight, bias = conv.weight.detach().double().numpy(), _bias(conv.bias, conv.out_channels)
        attributes: dict[str, Any] = {"dilations": [dilation], "pads": [padding, padding]}
        return self._linear(x, weight, bias, self._ranges[conv], attributes)

    def _linear(self, x: Code, weight: Array, bias: Array, range: Range, attributes: dict[str, Any]) -> Code:
        """A QLinearConv of weights [outputs, inputs, kernel]."""
        zero = int(x.zero[0]) if (x.zero == x.zero[0]).all() else MIDDLE
        # Codes are read as offsets from one zero point; what that leaves out of each channel is constant.
        constant = x.rest + x.scale * (zero - x.zero)
        bias = bias + np.einsum("oik,i->o", weight, constant)
        folded = weight * x.scale[:, None]
        steps = np.maximum(np.abs(folded).max(axis=(1, 2)) / 127, TINY)
        low, high = np.minimum(range.low, 0), np.maximum(range.high, 0)
        scale = np.maximum((high - low) / STEPS, TINY)
        zeros = np.round(-low / scale)
        offset = bias + scale * (zeros - MIDDLE)
        name = self._graph.node(
            "QLinearConv",
            x.name,
            self._graph.constant(np.array(1, np.float32)),
            self._graph.constant(np.array(zero, np.uint8)),
            self._graph.constant(np.round(folded / steps[:, None, None]).astype(np.int8)),
            self._graph.constant((steps / scale).astype(np.float32)),
            self._graph.constant(np.zeros(len(steps), np.int8)),
            self._graph.constant(np.array(1, np.float32)),
            self._graph.constant(np.array(MIDDLE, np.uint8)),
            self._graph.constant(np.round(offset / steps).astype(np.int32)),
            kernel_shape=[weight.shape[2]],
            **attributes,
        )
        return Code(name, scale, zeros, np.zeros_like(scale))

    def _upsample(self, x: str, snake: Snake, conv: nn.ConvTranspose1d) -> str:
        stride, padding = int(conv.stride[0]), int(conv.padding[0])
        code = self._quantized_snake(x, snake)
        inputs, outputs = conv.in_channels, conv.out_channels
        # As a convolution, the frame before comes first.
        pairs = _pairs(conv)[:, :, ::-1].transpose(0, 3, 1, 2).reshape(outputs * stride, inputs, 2)
        range = self._ranges[conv]
        spread = Range(np.repeat(range.low, stride), np.repeat(range.high, stride))
        bias = np.repeat(_bias(conv.bias, outputs), stride)
        result = self._linear(code, pairs, bias, spread, {"dilations": [1], "pads": [1, 1]})
        graph = self._graph
        apart = graph.node("Reshape", result.name, graph.constant(np.array([0, outputs, stride, -1], np.int64)))
        turned = graph.node("Transpose", apart, perm=[0, 1, 3, 2])
        joined = graph.node("Reshape", turned, graph.constant(np.array([0, outputs, -1], np.int64)))
        cut = graph.node(
            "Slice",
            joined,
            graph.constant(np.array([padding], np.int64)),
            graph.constant(np.array([-padding], np.int64)),
            graph.constant(np.array([2], np.int64)),
        )
        code = Code(cut, result.scale[::stride], result.zero[::stride], result.rest[::stride])
        return self._dequantize(code, code.scale)

    def _wide_upsample(self, x: str, snake: Snake, conv: nn.ConvTranspose1d) -> str:
        """The upsampling of a single-precision value as a product over pairs of frames, its weights alone in 8 bits."""
        graph, stride, padding = self._graph, int(conv.stride[0]), int(conv.padding[0])
        inputs, outputs = conv.in_channels, conv.out_channels
        # [2 × inputs, stride × outputs]: the frame's own taps above those for the frame before it.
        matrix = _pairs(conv).transpose(2, 1, 3, 0).reshape(2 * inputs, stride * outputs)
        frames = graph.node("Transpose", self._snake(x, snake), perm=[0, 2, 1])
        padded = graph.node("Pad", frames, graph.constant(np.array([0, 1, 0, 0, 1, 0], np.int64)))
        own, before = self._frames(padded, 1, LAST), self._frames(padded, 0, -1)
        pairs = graph.node("Concat", own, before, axis=2)
        attributes, codes, scale = blocks(matrix.astype(np.float32), ACCURATE)
        product = graph.node("MatMulNBits", pairs, graph.constant(codes), graph.constant(scale), domain=MICROSOFT, **attributes)
        joined = graph.node("Reshape", product, graph.constant(np.array([0, -1, outputs], np.int64)))
        audio = graph.node("Transpose", self._frames(joined, padding, -padding), perm=[0, 2, 1])
        return graph.node("Add", audio, self._channels(_bias(conv.bias, outputs)))

    def _frames(self, x: str, start: int, end: int) -> str:
        """A slice of the middle axis."""
        bounds = (self._graph.constant(np.array([value], np.int64)) for value in (start, end, 1))
        return self._graph.node("Slice", x, *bounds)

    def _dequantize(self, x: Code, scale: Array) -> str:
        return self._graph.node(
            "DequantizeLinear",
            x.name,
            self._graph.constant(scale.astype(np.float32)),
            self._graph.constant(x.zero.astype(np.uint8)),
            axis=1,
        )

    def _wide_conv(self, x: str, conv: nn.Conv1d) -> str:
        padding, dilation = int(conv.padding[0]), int(conv.dilation[0])
        inputs = [x, self._graph.constant(conv.weight.detach().numpy())]
        if conv.bias is not None:
            inputs.append(self._graph.constant(conv.bias.detach().numpy()))
        return self._graph.node(
            "Conv", *inputs, dilations=[dilation], pads=[padding, padding], kernel_shape=[conv.kernel_size[0]]
        )

    def _scaled(self, x: str, factor: Array) -> str:
        return self._graph.node("Mul", x, self._channels(factor))

    def _channels(self, values: Array) -> str:
        return self._graph.constant(values[:, None].astype(np.float32))


def _pairs(conv: nn.ConvTranspose1d) -> Array:
    """Weights w of an upsampling, [outputs, inputs, 2, stride].

    Output frame m·stride + j − padding is `w[0, j]·x[m] + w[1, j]·x[m − 1]`.
    """
    weight = conv.weight.detach().double().numpy()
    return weight.reshape(conv.in_channels, conv.out_channels, 2, -1).transpose(1, 0, 2, 3)


def _parameters(snake: Snake) -> tuple[Array, Array]:
    """α and m/2."""
    return snake.alpha[:, 0].double().numpy(), snake.magnitude[:, 0].double().numpy() / 2


def _bias(bias: Tensor | None, outputs: int) -> Array:
    return np.zeros(outputs) if bias is None else bias.detach().double().numpy()


def _common_zero(low: Array, high: Array, missing: Array) -> int:
    """The zero point that gives the channels the finest steps: least mean square of scale relative to range."""
    candidates = np.arange(1, STEPS)[:, None]
    scales = np.maximum(np.maximum(high / (STEPS - candidates), -low / candidates), missing / (STEPS - candidates))
    ideal = np.maximum(high - low, TINY)
    return int(candidates[np.argmin(((scales / ideal) ** 2).mean(axis=1)), 0])
