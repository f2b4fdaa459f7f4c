"""What the decoder's 8-bit graphs are made of: values with a scale for each channel, and the nodes that compute with them.

A value is stored in one of two ways:

- `Quantized`, uint8: `real = scale[c] · (value − zero_point[c])`, with a scale and a zero point for each channel c.
  `QLinearConv` takes one scale and one zero point for its whole input, and the same for its output. So the channels' scales are
  folded into its weights (input) and into its weight scales (output), of which it takes one for each output channel, and the
  zero points into its bias.
- `Scaled`, float32: `real = scale[c] · value`. The residual stream of a block is kept in the steps of its lookup tables, so
  that the index of a value is the value itself, clipped and truncated.

Snake is looked up, together with the quantization of its result. A lookup is `GatherElements`: it takes 0.8 ns a value where
`Cos` alone takes 1.9 (one core of an AMD Zen 4), and any function of one value costs the same. A quantized value has 256 cases,
so its table is exact. A `Scaled` value is rounded to `TABLE_STEPS` steps of its largest value on each side of zero; an index
below zero counts from the table's end. Lookups with 8-bit results are functions of the graph (`export.functions`), which native
operators may take over.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import onnx

from sao_onnx_convert.export.builder import Array, GraphBuilder
from sao_onnx_convert.export.functions import CONVOLVE_BYTES, LOOK_UP_BYTES, LOOK_UP_STEPS, TABLE_STEPS
from sao_onnx_convert.family.stable_audio_open.networks.autoencoder import Snake
from sao_onnx_convert.quantize.constants import MIN_SCALE, UINT8_MAX, ZERO_POINT
from sao_onnx_convert.quantize.overflow import quantize_without_overflow
from sao_onnx_convert.quantize.ranges import ActivationRange, ChannelRange, quantization

FINE_TABLE_STEPS = 4096
"""The same for the last Snake, whose result stays in single precision."""

HEADROOM = 1.5
"""A table reaches this many times as far as the values during calibration. Values beyond it are clipped."""


@dataclass(frozen=True)
class Quantized:
    """An 8-bit value in a graph: `real = scale[c] · (value − zero_point[c])`.

    Attributes:
        name: Of the value in the graph, uint8 [b, channels, n].
        scale: float64 [channels].
        zero_point: float64 [channels].
    """

    name: str
    scale: Array
    zero_point: Array


@dataclass(frozen=True)
class Scaled:
    """A single-precision value in a graph: `real = scale[c] · value`.

    Attributes:
        name: Of the value in the graph, float32 [b, channels, n].
        scale: float64 [channels].
    """

    name: str
    scale: Array


def table_scale(values: ChannelRange) -> Array:
    """The scale of a value that is looked up in tables, float64 [channels]: one step of a table."""
    return np.maximum(HEADROOM * np.maximum(values.high, -values.low) / TABLE_STEPS, MIN_SCALE)


class DecoderGraph:
    """Adds the decoder's arithmetic to a graph.

    Args:
        copies: How many times the same layers run side by side, each on channels of its own: 2 for a dual mono decoder.

    Attributes:
        builder: Collects the nodes.
    """

    def __init__(self, copies: int = 1) -> None:
        self.builder = GraphBuilder()
        self._copies = copies

    def reshaped(self, x: str, batch: int, channels: int, output: str | None = None) -> str:
        """A value as [batch, channels, frames]."""
        return self.builder.node("Reshape", x, self.builder.constant(np.array([batch, channels, -1], np.int64)), output=output)

    def channels(self, values: Array) -> str:
        """A constant with one number for each channel, float32 [channels, 1]."""
        return self.builder.constant(values[:, None].astype(np.float32))

    def multiplied(self, x: str, factor: Array) -> str:
        """A value times one factor for each channel."""
        return self.builder.node("Mul", x, self.channels(factor))

    def real(self, x: Scaled) -> str:
        """The real value."""
        return x.name if (x.scale == 1).all() else self.multiplied(x.name, x.scale)

    def dequantized(self, x: Quantized, scale: Array) -> Scaled:
        """A quantized value in single precision, of the given scale."""
        factor = self.builder.constant((x.scale / scale).astype(np.float32))
        zero = self.builder.constant(x.zero_point.astype(np.uint8))
        return Scaled(self.builder.node("DequantizeLinear", x.name, factor, zero, axis=1), scale)

    def padded(self, x: Quantized, frames: int) -> Quantized:
        """A value with frames of zeros on both sides. Zero is another number in every channel: its zero point."""
        if not frames:
            return x
        zero = np.broadcast_to(x.zero_point.astype(np.uint8)[:, None], (self._copies, len(x.zero_point), frames))
        zeros = self.builder.constant(zero)
        return replace(x, name=self.builder.node("Concat", zeros, x.name, zeros, axis=2))

    def conv(self, x: Quantized, weight: Array, bias: Array, activations: ActivationRange, dilation: int = 1) -> Quantized:
        """A convolution in 8 bits, without padding.

        Args:
            x: Input.
            weight: [outputs, inputs, kernel].
            bias: [outputs].
            activations: The mean of the input and the range of the output, from calibration.
            dilation: Of the kernel.
        """
        # The node takes one zero point for all channels. What is left of each channel's own is constant, and goes to the bias.
        bias = bias + np.einsum("oik,i->o", weight, x.scale * (ZERO_POINT - x.zero_point))
        folded = weight * x.scale[:, None]
        quantized, scales = quantize_without_overflow(folded)
        # Rounded weights shift the mean of the output; the bias corrects it.
        average = activations.mean / x.scale + x.zero_point - ZERO_POINT
        bias = bias + np.einsum("oik,i->o", folded - quantized * scales[:, None, None], average)
        scale, zero_point = quantization(activations.output, with_zero=True)
        offset = bias + scale * (zero_point - ZERO_POINT)
        constant = self.builder.constant
        (name,) = self.builder.call(
            CONVOLVE_BYTES,
            x.name,
            self.builder.own_constant(quantized.astype(np.int8)),
            constant((scales / scale).astype(np.float32)),
            constant(np.round(offset / scales).astype(np.int32)),
            dilations=[dilation],
        )
        return Quantized(name, scale, zero_point)

    def snake_of_scaled(self, x: Scaled, snake: Snake, result: ChannelRange) -> Quantized:
        """Snake of a value whose scale is a `table_scale`. Zero is among the results, so that they can be padded.

        Args:
            x: The value.
            snake: The activation.
            result: Range of its result, from calibration.
        """
        scale, zero_point = quantization(result, with_zero=True)
        values = _snake(_table_inputs(TABLE_STEPS) * x.scale[:, None], snake)
        tables = self._tables(_quantize(values, scale, zero_point))
        (name,) = self.builder.call(LOOK_UP_STEPS, x.name, tables)
        return Quantized(name, scale, zero_point)

    def snake_of_quantized(self, x: Quantized, snake: Snake, result: ChannelRange) -> Quantized:
        """The same of a quantized value. Zero need not be among the results."""
        scale, zero_point = quantization(result)
        values = _snake(x.scale[:, None] * (np.arange(UINT8_MAX + 1) - x.zero_point[:, None]), snake)
        tables = self._tables(_quantize(values, scale, zero_point))
        (name,) = self.builder.call(LOOK_UP_BYTES, x.name, tables)
        return Quantized(name, scale, zero_point)

    def fine_snake(self, x: Scaled, snake: Snake) -> Scaled:
        """Snake of a value whose scale is a `table_scale`, from a finer table, in single precision."""
        finer = FINE_TABLE_STEPS / TABLE_STEPS
        steps = self.builder.node("Mul", x.name, self.builder.constant(np.array(finer, np.float32)))
        edges = (self.builder.constant(np.array(e, np.float32)) for e in (1 - FINE_TABLE_STEPS, FINE_TABLE_STEPS - 1))
        index = self.builder.node("Cast", self.builder.node("Clip", steps, *edges), to=onnx.TensorProto.INT32)
        values = _snake(_table_inputs(FINE_TABLE_STEPS) * x.scale[:, None] / finer, snake)
        tables = self._tables(values.astype(np.float32))
        return Scaled(self.builder.node("GatherElements", tables, index, axis=2), np.ones_like(x.scale))

    def computed_snake(self, x: Scaled, snake: Snake) -> str:
        """Snake in single precision without a table: `x + m·sin²(αx)`."""
        real = self.real(x)
        sine = self.builder.node("Sin", self.multiplied(real, _alpha(snake)))
        return self.builder.node("Add", real, self.multiplied(self.builder.node("Mul", sine, sine), _magnitude(snake)))

    def _tables(self, table: Array) -> str:
        """A table for each channel, [channels, entries], for a value [copies, channels, frames]."""
        tables = self.builder.constant(table[None])
        if self._copies > 1:
            # Stored once; ONNX Runtime repeats it when the graph is loaded.
            tables = self.builder.node("Concat", *[tables] * self._copies, axis=0)
        return tables


def _table_inputs(steps: int) -> Array:
    """The value that each entry of a table stands for, in steps; entries from `steps` on are for negative values.

    An index is truncated. So an entry stands for the middle of the step that is farther from zero, and the one at zero for two
    steps.
    """
    above = np.arange(steps) + 0.5
    below = np.arange(-steps, 0) - 0.5
    return np.concatenate([[0.0], above[1:], below])


def _snake(x: Array, snake: Snake) -> Array:
    """Snake of values [channels, ...]."""
    result: Array = x + _magnitude(snake)[:, None] * np.sin(_alpha(snake)[:, None] * x) ** 2
    return result


def _quantize(values: Array, scale: Array, zero_point: Array) -> Array:
    """Values [channels, ...] as uint8, with one scale and zero point for each channel."""
    return np.clip(np.round(values / scale[:, None] + zero_point[:, None]), 0, UINT8_MAX).astype(np.uint8)


def _alpha(snake: Snake) -> Array:
    return snake.alpha[:, 0].double().numpy()


def _magnitude(snake: Snake) -> Array:
    return snake.magnitude[:, 0].double().numpy()
