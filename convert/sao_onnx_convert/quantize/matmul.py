"""8-bit matmuls with constant weights: the linear layers of the DiT and of the text encoder.

There are two forms:

- By rows: `MatMulIntegerToFloat`, weights with one scale for each output, activations with one scale for each row, that of its
  largest value. It is symmetric, so nothing but that value has to be measured.
- By blocks: the same node over a stack of blocks of inputs. Activations have one scale for each row and block, weights one for
  each output and block. It is slower, and closer where a few inputs are far larger than the others. (`MatMulNBits` does it in
  one node, but in single precision where a processor has neither AVX2 nor dot products, and so with other results.)

The second Linear of a gated feed-forward reads the result of a gate, which has long tails: if 8 bits have to hold its largest
value, little is left for the others. `rotated_row_matmuls` multiplies every 64 inputs by a Hadamard matrix first, and the
weights by its inverse, which spreads the tails over all of them (Ashkboos et al., "QuaRot", 2024). The result is the same but
for rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from sao_onnx_convert.export.builder import MICROSOFT, Array, GraphBuilder
from sao_onnx_convert.quantize.constants import INT8_MAX, MIN_SCALE, ZERO_POINT

BLOCK = 128
"""Inputs of a block."""

ROTATED = 64
"""Inputs that a rotation mixes."""


def row_matmuls(graph: GraphBuilder, x: str, matrices: Sequence[Array]) -> list[str]:
    """Multiply one value by several matrices; it is quantized once for all of them.

    Args:
        graph: Gets the nodes.
        x: Name of the value, [b, n, inputs].
        matrices: [inputs, outputs] each.

    Returns:
        Names of the results, [b, n, outputs] each.
    """
    quantized, largest, scale, zero_point = _quantize_rows(graph, x)
    results = []
    for matrix in matrices:
        scales = np.maximum(np.abs(matrix).max(axis=0) / INT8_MAX, MIN_SCALE).astype(np.float32)
        weight = [np.round(matrix / scales).astype(np.int8), scales, np.zeros(len(scales), np.int8)]
        quantized_weight, weight_scale, weight_zero = map(graph.own_constant, weight)
        inputs = (quantized, quantized_weight, scale, weight_scale, zero_point, weight_zero)
        results.append(graph.node("Mul", graph.node("MatMulIntegerToFloat", *inputs, domain=MICROSOFT), largest))
    return results


def _quantize_rows(graph: GraphBuilder, x: str) -> tuple[str, str, str, str]:
    """Divide values [..., n] by the largest of their row, and quantize them.

    Returns:
        Names of the quantized values, of the largest values [..., 1], and of the scale and zero point of what was divided.
    """
    largest = graph.node("ReduceMax", graph.node("Abs", x), graph.constant(np.array([-1], np.int64)), keepdims=1)
    # A row of zeros is divided by something, too.
    largest = graph.node("Max", largest, graph.constant(np.array(MIN_SCALE, np.float32)))
    scale, zero = graph.constant(np.array(1 / INT8_MAX, np.float32)), graph.constant(np.array(ZERO_POINT, np.uint8))
    return graph.node("QuantizeLinear", graph.node("Div", x, largest), scale, zero), largest, scale, zero


def rotated_row_matmuls(graph: GraphBuilder, x: str, matrices: Sequence[Array]) -> list[str]:
    """`row_matmuls` with its inputs rotated. Without a rotation where the number of inputs is no multiple of 64."""
    inputs = len(matrices[0])
    if inputs % ROTATED:
        return row_matmuls(graph, x, matrices)
    rotation = hadamard(ROTATED)
    groups = graph.node("Reshape", x, graph.constant(np.array([0, 0, inputs // ROTATED, ROTATED], np.int64)))
    rotated = graph.node("MatMul", groups, graph.constant(rotation.astype(np.float32)))
    joined = graph.node("Reshape", rotated, graph.constant(np.array([0, 0, inputs], np.int64)))
    rotated_matrices = [
        np.einsum("ij,bjo->bio", rotation.T, matrix.reshape(-1, ROTATED, matrix.shape[1])).reshape(matrix.shape)
        for matrix in matrices
    ]
    return row_matmuls(graph, joined, rotated_matrices)


def hadamard(size: int) -> Array:
    """The orthogonal Hadamard matrix, [size, size], by Sylvester's construction.

    Args:
        size: A power of two.
    """
    matrix = np.ones((1, 1))
    while len(matrix) < size:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]]) / np.sqrt(2)
    return matrix


@dataclass(frozen=True)
class QuantizedBlocks:
    """A value in a graph, divided into blocks of its last axis and quantized. The attributes are names of values in the graph.

    Attributes:
        quantized: [blocks, rows, inputs of a block].
        largest: The largest value of each row and block, [blocks, rows, 1].
        scale: Of the quantized values, which are relative to the largest one.
        zero_point: Of the quantized values.
        leading: Shape of the value without its last axis.
    """

    quantized: str
    largest: str
    scale: str
    zero_point: str
    leading: str


def quantize_blocks(graph: GraphBuilder, x: str, inputs: int) -> QuantizedBlocks:
    """Quantize a value in blocks, the last one padded with zeros.

    Args:
        graph: Gets the nodes.
        x: Name of the value, [..., inputs].
        inputs: Size of its last axis.
    """
    width, count = _blocks(inputs)
    leading = graph.node("Shape", x, end=-1)
    if missing := count * width - inputs:
        last = graph.constant(np.array([-1], np.int64))
        x = graph.node("Pad", x, graph.constant(np.array([0, missing], np.int64)), "", last)
    blocks = graph.node("Reshape", x, graph.constant(np.array([-1, count, width], np.int64)))
    return QuantizedBlocks(*_quantize_rows(graph, graph.node("Transpose", blocks, perm=[1, 0, 2])), leading)


def block_matmul(graph: GraphBuilder, x: QuantizedBlocks, matrix: Array, output: str | None = None) -> str:
    """Multiply a value in blocks by a matrix.

    Args:
        graph: Gets the nodes.
        x: The value.
        matrix: [inputs, outputs].
        output: Name of the result; None for a new one.

    Returns:
        Name of the result, [..., outputs].
    """
    inputs, outputs = matrix.shape
    width, count = _blocks(inputs)
    blocks = np.pad(matrix, ((0, count * width - inputs), (0, 0))).reshape(count, width, outputs)
    scales = np.maximum(np.abs(blocks).max(axis=1, keepdims=True) / INT8_MAX, MIN_SCALE).astype(np.float32)
    weight = graph.own_constant(np.round(blocks / scales).astype(np.int8))
    zero = graph.own_constant(np.zeros(scales.shape, np.int8))
    names = (x.quantized, weight, x.scale, graph.own_constant(scales), x.zero_point, zero)
    relative = graph.node("MatMulIntegerToFloat", *names, domain=MICROSOFT)
    real = graph.node("Mul", relative, x.largest)
    total = graph.node("ReduceSum", real, graph.constant(np.array([0], np.int64)), keepdims=0)
    shape = graph.node("Concat", x.leading, graph.constant(np.array([outputs], np.int64)), axis=0)
    return graph.node("Reshape", total, shape, output=output)


def _blocks(inputs: int) -> tuple[int, int]:
    """Inputs of a block, and the number of blocks."""
    width = min(BLOCK, inputs)
    return width, -(-inputs // width)


def quantize_matmuls(model: onnx.ModelProto, chosen: Callable[[str], bool] = lambda name: True) -> None:
    """Replace matmuls with constant matrices by `block_matmul`, in place.

    Args:
        model: With its weights loaded.
        chosen: Whether to replace the node of a name.
    """
    graph, builder = model.graph, GraphBuilder("blocks.")
    constants = {tensor.name: tensor for tensor in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    quantized: dict[str, QuantizedBlocks] = {}
    for node in graph.node:
        weight = constants.get(node.input[1]) if node.op_type == "MatMul" else None
        if weight is not None and len(weight.dims) == 2 and chosen(node.name):
            matrix, x = numpy_helper.to_array(weight), node.input[0]
            if x not in quantized:
                quantized[x] = quantize_blocks(builder, x, len(matrix))
            block_matmul(builder, quantized[x], matrix, output=node.output[0])
            nodes.extend(builder.take_nodes())
        else:
            nodes.append(node)
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend([*kept, *builder.constants])
    if all(opset.domain != MICROSOFT for opset in model.opset_import):
        model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))
