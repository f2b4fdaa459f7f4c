"""The decoder in 8 bits.

Convolutions are `QLinearConv` with unsigned activations and signed weights of one scale per output channel; `recipe` says why.
Everything between two convolutions is a table: Snake, and the quantization of its result, are looked up.

How a value is stored:
- a `Code`, uint8: `real = scale[c] · (code − zero[c])`, scale and zero point of each channel its own. `QLinearConv` wants one
  of each for its whole input and output, so the channels' scales are folded into its weights (input side) and into its weight
  scales (output side), which are of one channel each, and the zero points into its bias.
- a `Stream`, float32: `real = scale[c] · value`. The residual stream of a block is kept in the units of its tables' index, so
  that an index is the value itself, cut off and truncated.

A lookup is `GatherElements`: 0.8 ns a value where `Cos` alone takes 1.9 (one core of an AMD Zen 4), and every function of one
value costs the same. Snake of a code has 256 values, so its table is exact; a stream is read to `LEVELS` steps of its largest
value on each side of zero. An index below zero counts from the table's end.

A transposed convolution is a convolution with stride × channels outputs over pairs of input frames, whose outputs are
interleaved while they are still 8 bits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import onnx
from torch import Tensor, nn

from sao_onnx_convert.export.builder import MICROSOFT, Array, GraphBuilder
from sao_onnx_convert.family.stable_audio_open.networks.autoencoder import DecoderBlock, ResidualUnit, Snake
from sao_onnx_convert.quantize.matmul import rows
from sao_onnx_convert.quantize.overflow import quantize_in_pairs
from sao_onnx_convert.quantize.ranges import STEPS, TINY, Range, Seen, quantization

MIDDLE = 128
"""The zero point of every `QLinearConv`, whatever its channels' own."""

LAST = np.iinfo(np.int64).max

LEVELS = 512
"""Steps of a stream on each side of zero, where the result is 8 bits. Twice as many made no difference."""

HEADROOM = 1.5
"""How much further than what was seen a stream's steps reach: what lies beyond is cut off."""

FINE_LEVELS = 4096
"""The same for the last Snake, whose result stays in single precision."""


@dataclass(frozen=True)
class Code:
    """An 8-bit value in a graph: `real = scale[c] · (code − zero[c])`."""

    name: str
    scale: Array
    zero: Array


@dataclass(frozen=True)
class Stream:
    """A single-precision value in a graph: `real = scale[c] · value`."""

    name: str
    scale: Array


class DecoderBuilder:
    """Builds one of the decoder's graphs from its layers.

    Args:
        seen: By every layer that `Observer` watches, on what the decoder is calibrated with.
        parts: Of which the layers compute one, each over channels of its own: 2 for the halves of `twin`, otherwise 1.
    """

    def __init__(self, seen: dict[nn.Module, Seen], parts: int = 1) -> None:
        self._graph = GraphBuilder()
        self._seen = seen
        self._parts = parts

    def build(self, layers: nn.Sequential, source: str, target: str) -> onnx.ModelProto:
        """The graph of a run of the decoder's layers, from the input `source` to the output `target`."""
        convs = [child for child in layers.modules() if isinstance(child, (nn.Conv1d, nn.ConvTranspose1d))]
        inputs, outputs = convs[0].in_channels, convs[-1].out_channels
        batch = source if self._parts == 1 else self._shaped(source, self._parts, inputs)
        x, behind_conv = Stream(batch, np.ones(inputs)), False
        if isinstance(layers[0], DecoderBlock):
            scale = _table_scale(self._seen[layers[0].layers[0]].input)
            x = Stream(self._scaled(batch, 1 / scale), scale)
        for layer in layers:
            if isinstance(layer, DecoderBlock):
                # Measured: 8 bits at the first block's upsampling cost more than all others together, and it is little work.
                x = self._block(x, layer, wide=behind_conv)
            elif isinstance(layer, Snake):
                x = self._fine_snake(x, layer)
            elif isinstance(layer, nn.Conv1d):
                # The first convolution of all and the last: little work, and the last one's output is the audio itself.
                x = self._wide_conv(x, layer)
            elif isinstance(layer, nn.Tanh):
                x = Stream(self._graph.node("Tanh", self._real(x)), np.ones_like(x.scale))
            behind_conv = isinstance(layer, nn.Conv1d)
        if self._parts == 1:
            self._graph.node("Identity", self._real(x), output=target)
        else:
            self._shaped(self._real(x), 1, self._parts * outputs, target)
        shapes = {source: self._parts * inputs, target: self._parts * outputs}
        return self._graph.model(
            # Lookups take one clip at a time.
            "decoder",
            [source],
            [target],
            {name: (1, width, f"{name}_frames") for name, width in shapes.items()},
        )

    def _shaped(self, x: str, batch: int, channels: int, output: str | None = None) -> str:
        """A value as [batch, channels, frames]."""
        return self._graph.node("Reshape", x, self._graph.constant(np.array([batch, channels, -1], np.int64)), output=output)

    def _block(self, x: Stream, block: DecoderBlock, wide: bool) -> Stream:
        snake, upsample, *units = cast(Any, block.layers)
        # One unit of measure serves all tables that read the block's stream: what enters a unit, and what leaves the last.
        seen = self._seen[units[-1]].output
        for unit in units:
            seen |= self._seen[unit].input
        scale = _table_scale(seen)
        if wide:
            y = self._wide_upsample(x, snake, upsample)
            y = Stream(self._scaled(y.name, 1 / scale), scale)
        else:
            y = self._stream(self._upsample(x, snake, upsample), scale)
        for unit in units:
            y = self._unit(y, unit)
        return y

    def _unit(self, x: Stream, unit: ResidualUnit) -> Stream:
        first, dilated, second, pointwise = cast(Any, unit.layers)
        inner = self._conv(self._snake_of_stream(x, first), dilated)
        outer = self._conv(self._snake_of_code(inner, second), pointwise)
        return Stream(self._graph.node("Add", x.name, self._stream(outer, x.scale).name), x.scale)

    def _snake_of_stream(self, x: Stream, snake: Snake) -> Code:
        """Snake of a stream in table units, as a code that has a zero to pad with."""
        scale, zero = quantization(self._seen[snake].output, with_zero=True)
        values = _snake(_indexed(LEVELS) * x.scale[:, None], snake)
        return Code(self._lookup(self._index(x.name, LEVELS), _codes(values, scale, zero)), scale, zero)

    def _snake_of_code(self, x: Code, snake: Snake) -> Code:
        """Snake of a code, as a code."""
        scale, zero = quantization(self._seen[snake].output)
        values = _snake(x.scale[:, None] * (np.arange(STEPS + 1) - x.zero[:, None]), snake)
        index = self._graph.node("Cast", x.name, to=onnx.TensorProto.INT32)
        return Code(self._lookup(index, _codes(values, scale, zero)), scale, zero)

    def _fine_snake(self, x: Stream, snake: Snake) -> Stream:
        """Snake of a stream in table units of `LEVELS`, in single precision."""
        finer = FINE_LEVELS / LEVELS
        index = self._index(self._graph.node("Mul", x.name, self._graph.constant(np.array(finer, np.float32))), FINE_LEVELS)
        values = _snake(_indexed(FINE_LEVELS) * x.scale[:, None] / finer, snake)
        return Stream(self._lookup(index, values.astype(np.float32)), np.ones_like(x.scale))

    def _index(self, x: str, levels: int) -> str:
        """The index of a value in a table of twice `levels`; what lies beyond reads the table's edge."""
        edges = (self._graph.constant(np.array(edge, np.float32)) for edge in (1 - levels, levels - 1))
        return self._graph.node("Cast", self._graph.node("Clip", x, *edges), to=onnx.TensorProto.INT32)

    def _lookup(self, index: str, table: Array) -> str:
        """Table [channels, entries] at an index [parts, channels, frames]."""
        tables = self._graph.constant(table[None])
        if self._parts > 1:
            # Stored once; ONNX Runtime repeats it when the graph is loaded.
            tables = self._graph.node("Concat", *[tables] * self._parts, axis=0)
        return self._graph.node("GatherElements", tables, index, axis=2)

    def _conv(self, x: Code, conv: nn.Conv1d) -> Code:
        weight, bias = conv.weight.detach().double().numpy(), _bias(conv.bias, conv.out_channels)
        return self._linear(self._padded(x, int(conv.padding[0])), weight, bias, self._seen[conv], int(conv.dilation[0]))

    def _padded(self, x: Code, frames: int) -> Code:
        """A code with frames of zeros, which are another code in every channel, on both sides."""
        if not frames:
            return x
        zero = np.broadcast_to(x.zero.astype(np.uint8)[:, None], (self._parts, len(x.zero), frames))
        zeros = self._graph.constant(zero)
        return replace(x, name=self._graph.node("Concat", zeros, x.name, zeros, axis=2))

    def _linear(self, x: Code, weight: Array, bias: Array, seen: Seen, dilation: int = 1) -> Code:
        """A QLinearConv of weights [outputs, inputs, kernel], without padding."""
        # It reads codes as offsets from one zero point; what that leaves out of each channel is constant.
        bias = bias + np.einsum("oik,i->o", weight, x.scale * (MIDDLE - x.zero))
        folded = weight * x.scale[:, None]
        codes, steps = quantize_in_pairs(folded)
        # Rounded weights shift the mean of what they compute; the bias takes it back.
        average = seen.mean / x.scale + x.zero - MIDDLE
        bias = bias + np.einsum("oik,i->o", folded - codes * steps[:, None, None], average)
        scale, zero = quantization(seen.output, with_zero=True)
        offset = bias + scale * (zero - MIDDLE)
        name = self._graph.node(
            "QLinearConv",
            x.name,
            self._graph.constant(np.array(1, np.float32)),
            self._graph.constant(np.array(MIDDLE, np.uint8)),
            self._graph.own_constant(codes.astype(np.int8)),
            self._graph.constant((steps / scale).astype(np.float32)),
            self._graph.own_constant(np.zeros(len(steps), np.int8)),
            self._graph.constant(np.array(1, np.float32)),
            self._graph.constant(np.array(MIDDLE, np.uint8)),
            self._graph.constant(np.round(offset / steps).astype(np.int32)),
            # Of this domain ONNX Runtime leaves the weights signed where it makes others unsigned; these cannot overflow.
            domain=MICROSOFT,
            kernel_shape=[weight.shape[2]],
            dilations=[dilation],
        )
        return Code(name, scale, zero)

    def _upsample(self, x: Stream, snake: Snake, conv: nn.ConvTranspose1d) -> Code:
        stride, padding = int(conv.stride[0]), int(conv.padding[0])
        inputs, outputs = conv.in_channels, conv.out_channels
        # As a convolution, the frame before comes first.
        pairs = _pairs(conv)[:, :, ::-1].transpose(0, 3, 1, 2).reshape(outputs * stride, inputs, 2)
        seen = self._seen[conv]
        spread = Range(np.repeat(seen.output.low, stride), np.repeat(seen.output.high, stride))
        bias = np.repeat(_bias(conv.bias, outputs), stride)
        source = self._padded(self._snake_of_stream(x, snake), 1)
        result = self._linear(source, pairs, bias, replace(seen, output=spread))
        graph = self._graph
        apart = graph.node("Reshape", result.name, graph.constant(np.array([0, outputs, stride, -1], np.int64)))
        turned = graph.node("Transpose", apart, perm=[0, 1, 3, 2])
        joined = graph.node("Reshape", turned, graph.constant(np.array([0, outputs, -1], np.int64)))
        bounds = (graph.constant(np.array([value], np.int64)) for value in (padding, -padding, 2))
        return Code(graph.node("Slice", joined, *bounds), result.scale[::stride], result.zero[::stride])

    def _wide_upsample(self, x: Stream, snake: Snake, conv: nn.ConvTranspose1d) -> Stream:
        """The upsampling of a real value as a product over pairs of frames, each row in 8 bits."""
        graph, stride, padding = self._graph, int(conv.stride[0]), int(conv.padding[0])
        inputs, outputs = conv.in_channels, conv.out_channels
        # [2 × inputs, stride × outputs]: the frame's own taps above those for the frame before it.
        matrix = _pairs(conv).transpose(2, 1, 3, 0).reshape(2 * inputs, stride * outputs)
        frames = graph.node("Transpose", self._wide_snake(x, snake), perm=[0, 2, 1])
        padded = graph.node("Pad", frames, graph.constant(np.array([0, 1, 0, 0, 1, 0], np.int64)))
        own, before = self._frames(padded, 1, LAST), self._frames(padded, 0, -1)
        pairs = graph.node("Concat", own, before, axis=2)
        (product,) = rows(graph, pairs, [matrix.astype(np.float32)])
        joined = graph.node("Reshape", product, graph.constant(np.array([0, -1, outputs], np.int64)))
        audio = graph.node("Transpose", self._frames(joined, padding, -padding), perm=[0, 2, 1])
        return Stream(graph.node("Add", audio, self._channels(_bias(conv.bias, outputs))), np.ones(outputs))

    def _wide_snake(self, x: Stream, snake: Snake) -> str:
        """Snake of a stream, computed: `x + m·sin²(αx)`."""
        real = self._real(x)
        sine = self._graph.node("Sin", self._scaled(real, _alpha(snake)))
        return self._graph.node("Add", real, self._scaled(self._graph.node("Mul", sine, sine), _magnitude(snake)))

    def _frames(self, x: str, start: int, end: int) -> str:
        """A slice of the middle axis."""
        bounds = (self._graph.constant(np.array([value], np.int64)) for value in (start, end, 1))
        return self._graph.node("Slice", x, *bounds)

    def _stream(self, x: Code, scale: Array) -> Stream:
        """A code as a stream of the given scale."""
        factor = self._graph.constant((x.scale / scale).astype(np.float32))
        zero = self._graph.constant(x.zero.astype(np.uint8))
        return Stream(self._graph.node("DequantizeLinear", x.name, factor, zero, axis=1), scale)

    def _real(self, x: Stream) -> str:
        """A stream's real value."""
        return x.name if (x.scale == 1).all() else self._scaled(x.name, x.scale)

    def _wide_conv(self, x: Stream, conv: nn.Conv1d) -> Stream:
        padding, dilation = int(conv.padding[0]), int(conv.dilation[0])
        inputs = [self._real(x), self._graph.constant(conv.weight.detach().numpy())]
        if conv.bias is not None:
            inputs.append(self._graph.constant(conv.bias.detach().numpy()))
        attributes: dict[str, Any] = {
            "dilations": [dilation],
            "pads": [padding, padding],
            "kernel_shape": [conv.kernel_size[0]],
        }
        return Stream(self._graph.node("Conv", *inputs, **attributes), np.ones(conv.out_channels))

    def _scaled(self, x: str, factor: Array) -> str:
        return self._graph.node("Mul", x, self._channels(factor))

    def _channels(self, values: Array) -> str:
        return self._graph.constant(values[:, None].astype(np.float32))


def _table_scale(seen: Range) -> Array:
    """The unit of a stream that was seen to take these values."""
    return np.maximum(HEADROOM * np.maximum(seen.high, -seen.low) / LEVELS, TINY)


def _indexed(levels: int) -> Array:
    """The value that each entry of a table stands for, in steps; entries from `levels` on are the negative ones.

    An index is truncated, so an entry stands for the middle of the step away from zero, and the one at zero for two steps.
    """
    above = np.arange(levels) + 0.5
    below = np.arange(-levels, 0) - 0.5
    return np.concatenate([[0.0], above[1:], below])


def _snake(x: Array, snake: Snake) -> Array:
    """Snake of values [channels, ...]."""
    result: Array = x + _magnitude(snake)[:, None] * np.sin(_alpha(snake)[:, None] * x) ** 2
    return result


def _codes(values: Array, scale: Array, zero: Array) -> Array:
    """Values [channels, ...] as codes of one scale and zero point a channel."""
    return np.clip(np.round(values / scale[:, None] + zero[:, None]), 0, STEPS).astype(np.uint8)


def _alpha(snake: Snake) -> Array:
    return snake.alpha[:, 0].double().numpy()


def _magnitude(snake: Snake) -> Array:
    return snake.magnitude[:, 0].double().numpy()


def _pairs(conv: nn.ConvTranspose1d) -> Array:
    """Weights w of an upsampling, [outputs, inputs, 2, stride].

    Output frame m·stride + j − padding is `w[0, j]·x[m] + w[1, j]·x[m − 1]`.
    """
    weight = conv.weight.detach().double().numpy()
    return weight.reshape(conv.in_channels, conv.out_channels, 2, -1).transpose(1, 0, 2, 3)


def _bias(bias: Tensor | None, outputs: int) -> Array:
    return np.zeros(outputs) if bias is None else bias.detach().double().numpy()
