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
from sao_onnx_convert.export.functions import MULTIPLY_BYTES, QUANTIZE_GATED_ROWS, QUANTIZE_ROWS, add_functions
from sao_onnx_convert.quantize.constants import INT8_MAX, MIN_SCALE, ZERO_POINT

BLOCK = 128
"""Inputs of a block."""

ROTATED = 64
"""Inputs that a rotation mixes."""

STEP = np.float32(1 / INT8_MAX)
"""Scale of values that were divided by the largest of their row."""


def row_matmuls(graph: GraphBuilder, x: str, matrices: Sequence[Array]) -> list[str]:
    """Multiply one value by several matrices; it is quantized once for all of them.

    Args:
        graph: Gets the nodes.
        x: Name of the value, [b, n, inputs].
        matrices: [inputs, outputs] each.

    Returns:
        Names of the results, [b, n, outputs] each.
    """
    rows = _quantize_rows(graph, x)
    return [graph.node("Mul", _relative(graph, rows, matrix), rows.largest) for matrix in matrices]


@dataclass(frozen=True)
class _Rows:
    """A value in a graph, quantized by rows. The attributes are names of values in the graph.

    Attributes:
        quantized: uint8 [..., n].
        largest: The largest value of each row, [..., 1].
        scale: Of the quantized values, which are relative to the largest one.
        zero_point: Of the quantized values.
    """

    quantized: str
    largest: str
    scale: str
    zero_point: str


def _relative(graph: GraphBuilder, rows: _Rows, matrix: Array) -> str:
    """The product of a value and a matrix [inputs, outputs], relative to the largest value of each row."""
    scales = np.maximum(np.abs(matrix).max(axis=0) / INT8_MAX, MIN_SCALE).astype(np.float32)
    weights = graph.own_constant(np.round(matrix / scales).astype(np.int8))
    (product,) = graph.call(MULTIPLY_BYTES, rows.quantized, weights, graph.own_constant(scales * STEP))
    return product


def _quantize_rows(graph: GraphBuilder, x: str) -> _Rows:
    """Divide values [..., n] by the largest of their row, and quantize them."""
    least, step, zero_point = _row_constants(graph)
    quantized, largest = graph.call(QUANTIZE_ROWS, x, least, step)
    return _Rows(quantized, largest, step, zero_point)


def _row_constants(graph: GraphBuilder) -> tuple[str, str, str]:
    """What a row is divided by at least, because there are rows of zeros; scale and zero point of what was divided."""
    least, step = graph.constant(np.array(MIN_SCALE, np.float32)), graph.constant(np.array(STEP))
    return least, step, graph.constant(np.array(ZERO_POINT, np.uint8))


def rotated_row_matmuls(graph: GraphBuilder, x: str, matrices: Sequence[Array]) -> list[str]:
    """`row_matmuls` with its inputs rotated. Without a rotation where the number of inputs is no multiple of 64."""
    inputs = len(matrices[0])
    if inputs % ROTATED:
        return row_matmuls(graph, x, matrices)
    groups = graph.node("Reshape", x, graph.constant(np.array([0, 0, inputs // ROTATED, ROTATED], np.int64)))
    rotated = graph.node("MatMul", groups, _rotation(graph))
    joined = graph.node("Reshape", rotated, graph.constant(np.array([0, 0, inputs], np.int64)))
    return row_matmuls(graph, joined, [_rotated(matrix) for matrix in matrices])


def gated_matmuls(graph: GraphBuilder, x: str, gate: Sequence[Array], biases: Sequence[Array], down: Array) -> str | None:
    """The matmuls of a gated feed-forward and what is between them: `row_matmuls`, the gate, `rotated_row_matmuls`.

    Args:
        graph: Gets the nodes.
        x: Name of the value, [b, n, inputs].
        gate: Matrices of the value and of the gate, [inputs, width] each.
        biases: Of both, [width] each.
        down: Matrix [width, outputs].

    Returns:
        Name of the result, [b, n, outputs]; None where the width is no multiple of 64, so that nothing can be rotated.
    """
    if len(down) % ROTATED:
        return None
    rows = _quantize_rows(graph, x)
    halves = [_relative(graph, rows, matrix) for matrix in gate]
    least, step, zero_point = _row_constants(graph)
    inputs = (*halves, rows.largest, *map(graph.constant, biases), least, step, _rotation(graph))
    quantized, largest = graph.call(QUANTIZE_GATED_ROWS, *inputs)
    hidden = _Rows(quantized, largest, step, zero_point)
    return graph.node("Mul", _relative(graph, hidden, _rotated(down)), hidden.largest)


def _rotation(graph: GraphBuilder) -> str:
    return graph.constant(hadamard(ROTATED).astype(np.float32))


def _rotated(matrix: Array) -> Array:
    """A matrix [inputs, outputs] for inputs that have been rotated."""
    groups = matrix.reshape(-1, ROTATED, matrix.shape[1])
    rotated: Array = np.einsum("ij,bjo->bio", hadamard(ROTATED).T, groups)
    return rotated.reshape(matrix.shape)


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
    """A value in a graph, divided into blocks of its last axis and quantized.

    Attributes:
        rows: The blocks, [blocks, rows, inputs of a block].
        leading: Name of the shape of the value without its last axis.
    """

    rows: _Rows
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
    return QuantizedBlocks(_quantize_rows(graph, graph.node("Transpose", blocks, perm=[1, 0, 2])), leading)


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
    rows = x.rows
    names = (rows.quantized, weight, rows.scale, graph.own_constant(scales), rows.zero_point, zero)
    relative = graph.node("MatMulIntegerToFloat", *names, domain=MICROSOFT)
    real = graph.node("Mul", relative, rows.largest)
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
    add_functions(model)
