"""The decoder in 8 bits: its graphs, built from the layers.

Convolutions are `QLinearConv`, with unsigned activations and signed weights (`recipe` says why). Everything between two
convolutions is a lookup table. `decoder_graph` has the arithmetic.

A transposed convolution becomes a convolution with stride × channels outputs over pairs of input frames. Its outputs are
interleaved while they are still 8 bits.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
import onnx
from torch import Tensor, nn

from sao_onnx_convert.export.builder import SLICE_END, Array
from sao_onnx_convert.export.functions import RESIDUAL_UNIT
from sao_onnx_convert.family.stable_audio_open.networks.autoencoder import DecoderBlock, ResidualUnit, Snake
from sao_onnx_convert.quantize.decoder_graph import DecoderGraph, Quantized, Scaled, table_scale
from sao_onnx_convert.quantize.matmul import row_matmuls
from sao_onnx_convert.quantize.ranges import ActivationRange, ChannelRange

FEW_OUTPUTS = 4
"""A convolution in single precision with no more outputs is computed tap by tap."""


class DecoderBuilder:
    """Builds one of the decoder's graphs from its layers.

    Args:
        activations: Of every layer that `Observer` records, from calibration.
        copies: How many times the layers run side by side, each on channels of its own: 2 for a dual mono decoder.
    """

    def __init__(self, activations: dict[nn.Module, ActivationRange], copies: int = 1) -> None:
        self._graph = DecoderGraph(copies)
        self._builder = self._graph.builder
        self._activations = activations
        self._copies = copies

    def build(self, layers: nn.Sequential, source: str, target: str) -> onnx.ModelProto:
        """The graph of some of the decoder's layers.

        Args:
            layers: Consecutive layers, as `without_parametrization` makes them.
            source: Name of the input.
            target: Name of the output.
        """
        convs = [child for child in layers.modules() if isinstance(child, (nn.Conv1d, nn.ConvTranspose1d))]
        inputs, outputs = convs[0].in_channels, convs[-1].out_channels
        batch = source if self._copies == 1 else self._graph.reshaped(source, self._copies, inputs)
        x = Scaled(batch, np.ones(inputs))
        if isinstance(layers[0], DecoderBlock):
            scale = table_scale(self._activations[layers[0].layers[0]].input)
            x = Scaled(self._graph.multiplied(batch, 1 / scale), scale)
        before: nn.Module | None = None
        for layer in layers:
            x = self._layer(x, layer, before)
            before = layer
        if self._copies == 1:
            self._builder.node("Identity", self._graph.real(x), output=target)
        else:
            self._graph.reshaped(self._graph.real(x), 1, self._copies * outputs, target)
        widths = {source: self._copies * inputs, target: self._copies * outputs}
        # The lookup tables have no batch axis that could grow, so the graph takes one clip at a time.
        shapes: dict[str, tuple[int | str, ...]] = {name: (1, width, f"{name}_frames") for name, width in widths.items()}
        return self._builder.model("decoder", [source], [target], shapes)

    def _layer(self, x: Scaled, layer: nn.Module, before: nn.Module | None) -> Scaled:
        if isinstance(layer, DecoderBlock):
            # The upsampling of the first block cost more in 8 bits than all others together, and is little work.
            return self._block(x, layer, precise=isinstance(before, nn.Conv1d))
        if isinstance(layer, Snake):
            return self._graph.fine_snake(x, layer)
        if isinstance(layer, nn.Conv1d):
            # The first convolution of all and the last are little work, and the last one's output is the audio itself.
            return self._float_conv(x, layer)
        if isinstance(layer, nn.Tanh):
            return Scaled(self._builder.node("Tanh", self._graph.real(x)), np.ones_like(x.scale))
        return x

    def _block(self, x: Scaled, block: DecoderBlock, precise: bool) -> Scaled:
        snake, upsample, *units = cast(Any, block.layers)
        # All tables of the block share one scale: it holds what enters each unit, and what leaves the last one.
        values = self._activations[units[-1]].output
        for unit in units:
            values |= self._activations[unit].input
        scale = table_scale(values)
        if precise:
            y = self._precise_upsample(x, snake, upsample)
            y = Scaled(self._graph.multiplied(y.name, 1 / scale), scale)
        else:
            y = self._graph.dequantized(self._upsample(x, snake, upsample), scale)
        for unit in units:
            y = self._unit(y, unit)
        return y

    def _unit(self, x: Scaled, unit: ResidualUnit) -> Scaled:
        first, dilated, second, pointwise = cast(Any, unit.layers)
        with self._builder.folding(RESIDUAL_UNIT):
            inner = self._conv(self._graph.snake_of_scaled(x, first, self._activations[first].output), dilated)
            outer = self._conv(self._graph.snake_of_quantized(inner, second, self._activations[second].output), pointwise)
            return Scaled(self._builder.node("Add", x.name, self._graph.dequantized(outer, x.scale).name), x.scale)

    def _conv(self, x: Quantized, conv: nn.Conv1d) -> Quantized:
        weight, bias = conv.weight.detach().double().numpy(), _bias(conv.bias, conv.out_channels)
        padded = self._graph.padded(x, int(conv.padding[0]))
        return self._graph.conv(padded, weight, bias, self._activations[conv], int(conv.dilation[0]))

    def _upsample(self, x: Scaled, snake: Snake, conv: nn.ConvTranspose1d) -> Quantized:
        stride, padding = int(conv.stride[0]), int(conv.padding[0])
        inputs, outputs = conv.in_channels, conv.out_channels
        # As a convolution: the weights for the frame before come first.
        weight = _frame_weights(conv)[:, :, ::-1].transpose(0, 3, 1, 2).reshape(outputs * stride, inputs, 2)
        activations = self._activations[conv]
        result = ChannelRange(np.repeat(activations.output.low, stride), np.repeat(activations.output.high, stride))
        bias = np.repeat(_bias(conv.bias, outputs), stride)
        source = self._graph.padded(self._graph.snake_of_scaled(x, snake, self._activations[snake].output), 1)
        y = self._graph.conv(source, weight, bias, replace(activations, output=result))
        builder = self._builder
        apart = builder.node("Reshape", y.name, builder.constant(np.array([0, outputs, stride, -1], np.int64)))
        turned = builder.node("Transpose", apart, perm=[0, 1, 3, 2])
        joined = builder.node("Reshape", turned, builder.constant(np.array([0, outputs, -1], np.int64)))
        bounds = (builder.constant(np.array([value], np.int64)) for value in (padding, -padding, 2))
        return Quantized(builder.node("Slice", joined, *bounds), y.scale[::stride], y.zero_point[::stride])

    def _precise_upsample(self, x: Scaled, snake: Snake, conv: nn.ConvTranspose1d) -> Scaled:
        """Upsampling as one matmul over pairs of frames, with a scale for each pair."""
        builder, stride, padding = self._builder, int(conv.stride[0]), int(conv.padding[0])
        inputs, outputs = conv.in_channels, conv.out_channels
        # [2 × inputs, stride × outputs]: the weights for the frame itself, then those for the frame before it.
        matrix = _frame_weights(conv).transpose(2, 1, 3, 0).reshape(2 * inputs, stride * outputs)
        frames = builder.node("Transpose", self._graph.computed_snake(x, snake), perm=[0, 2, 1])
        padded = builder.node("Pad", frames, builder.constant(np.array([0, 1, 0, 0, 1, 0], np.int64)))
        own, before = self._frames(padded, 1, SLICE_END), self._frames(padded, 0, -1)
        pairs = builder.node("Concat", own, before, axis=2)
        (upsampled,) = row_matmuls(builder, pairs, [matrix.astype(np.float32)])
        joined = builder.node("Reshape", upsampled, builder.constant(np.array([0, -1, outputs], np.int64)))
        y = builder.node("Transpose", self._frames(joined, padding, -padding), perm=[0, 2, 1])
        return Scaled(builder.node("Add", y, self._graph.channels(_bias(conv.bias, outputs))), np.ones(outputs))

    def _frames(self, x: str, start: int, end: int) -> str:
        """A slice of the middle axis."""
        bounds = (self._builder.constant(np.array([value], np.int64)) for value in (start, end, 1))
        return self._builder.node("Slice", x, *bounds)

    def _float_conv(self, x: Scaled, conv: nn.Conv1d) -> Scaled:
        """A convolution in single precision."""
        if conv.out_channels <= FEW_OUTPUTS and conv.bias is None:
            return self._conv_by_taps(x, conv)
        padding, dilation = int(conv.padding[0]), int(conv.dilation[0])
        inputs = [self._graph.real(x), self._builder.constant(conv.weight.detach().numpy())]
        if conv.bias is not None:
            inputs.append(self._builder.constant(conv.bias.detach().numpy()))
        attributes: dict[str, Any] = {
            "dilations": [dilation],
            "pads": [padding, padding],
            "kernel_shape": [conv.kernel_size[0]],
        }
        return Scaled(self._builder.node("Conv", *inputs, **attributes), np.ones(conv.out_channels))

    def _conv_by_taps(self, x: Scaled, conv: nn.Conv1d) -> Scaled:
        """The same for few outputs: one matmul for all taps, whose results are moved and added up.

        ONNX Runtime's own convolution copies its input for each tap, which costs more than the products.
        """
        builder, outputs, taps = self._builder, conv.out_channels, int(conv.kernel_size[0])
        padding, dilation = int(conv.padding[0]), int(conv.dilation[0])
        matrix = conv.weight.detach().numpy().transpose(2, 0, 1).reshape(taps * outputs, conv.in_channels)
        products = builder.node("MatMul", builder.constant(matrix), self._graph.real(x))
        padded = builder.node("Pad", products, builder.constant(np.array([0, 0, padding, 0, 0, padding], np.int64)))
        moved = []
        for tap in range(taps):
            left = (taps - 1 - tap) * dilation
            bounds = ([tap * outputs, tap * dilation], [(tap + 1) * outputs, -left if left else SLICE_END], [1, 2])
            moved.append(builder.node("Slice", padded, *(builder.constant(np.array(bound, np.int64)) for bound in bounds)))
        return Scaled(builder.node("Sum", *moved), np.ones(outputs))


def _frame_weights(conv: nn.ConvTranspose1d) -> Array:
    """Weights w of an upsampling for an input frame and the one before it, [outputs, inputs, 2, stride].

    Output frame m·stride + j − padding is `w[0, j]·x[m] + w[1, j]·x[m − 1]`.
    """
    weight = conv.weight.detach().double().numpy()
    return weight.reshape(conv.in_channels, conv.out_channels, 2, -1).transpose(1, 0, 2, 3)


def _bias(bias: Tensor | None, outputs: int) -> Array:
    return np.zeros(outputs) if bias is None else bias.detach().double().numpy()
