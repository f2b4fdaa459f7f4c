"""Matrix products with constant weights in 8 bits: the linear layers of the DiT and of the text encoder.

Two forms, and their trade:

- rows: `MatMulIntegerToFloat` with weights of one scale per output and activations of one scale per row, which is that of its
  largest value. Symmetric, so nothing needs to be measured but that value.
- blocks: the same node over a stack of blocks of inputs, where activations have one scale for each row and block, and weights
  one for each output and block. Slower, and closer where a few inputs are far larger than the others. (`MatMulNBits` is one
  node for it, but computes in single precision where a processor has neither AVX2 nor dot products, and so not the same.)

The second Linear of a gated feed-forward reads a product with a gate, which has long tails: 8 bits for its largest value leave
few for the others. `rotated_rows` mixes every 64 inputs with a Hadamard matrix before, and with its inverse in the weights, so
that the tails spread over all of them (Ashkboos et al., "QuaRot", 2024). The product is the same but for rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from sao_onnx_convert.export.builder import MICROSOFT, Array, GraphBuilder

BLOCK = 128
"""Inputs of a block."""

MIDDLE = 128
"""The zero point of activations."""

MIXED = 64
"""Inputs that a rotation mixes."""

TINY = 1e-12


def rows(graph: GraphBuilder, x: str, matrices: Sequence[Array]) -> list[str]:
    """Products of `x` [b, n, inputs] with matrices [inputs, outputs]. It is quantized once for all of them."""
    code, largest, scale, zero = _codes(graph, x)
    products = []
    for matrix in matrices:
        steps = np.maximum(np.abs(matrix).max(axis=0) / 127, TINY).astype(np.float32)
        weight = [np.round(matrix / steps).astype(np.int8), steps, np.zeros(len(steps), np.int8)]
        codes, weight_scale, weight_zero = map(graph.own_constant, weight)
        inputs = (code, codes, scale, weight_scale, zero, weight_zero)
        products.append(graph.node("Mul", graph.node("MatMulIntegerToFloat", *inputs, domain=MICROSOFT), largest))
    return products


def _codes(graph: GraphBuilder, x: str) -> tuple[str, str, str, str]:
    """Values [..., n] as codes of one scale for each row; the rows' largest values; scale and zero point for those of 1."""
    largest = graph.node("ReduceMax", graph.node("Abs", x), graph.constant(np.array([-1], np.int64)), keepdims=1)
    # A row of zeros has no scale.
    largest = graph.node("Max", largest, graph.constant(np.array(TINY, np.float32)))
    scale, zero = graph.constant(np.array(1 / 127, np.float32)), graph.constant(np.array(MIDDLE, np.uint8))
    return graph.node("QuantizeLinear", graph.node("Div", x, largest), scale, zero), largest, scale, zero


def rotated_rows(graph: GraphBuilder, x: str, matrices: Sequence[Array]) -> list[str]:
    """`rows` with its inputs rotated, where their number allows it."""
    inputs = len(matrices[0])
    if inputs % MIXED:
        return rows(graph, x, matrices)
    turn = hadamard(MIXED)
    apart = graph.node("Reshape", x, graph.constant(np.array([0, 0, inputs // MIXED, MIXED], np.int64)))
    mixed = graph.node("MatMul", apart, graph.constant(turn.astype(np.float32)))
    joined = graph.node("Reshape", mixed, graph.constant(np.array([0, 0, inputs], np.int64)))
    turned = [
        np.einsum("ij,bjo->bio", turn.T, matrix.reshape(-1, MIXED, matrix.shape[1])).reshape(matrix.shape)
        for matrix in matrices
    ]
    return rows(graph, joined, turned)


def hadamard(size: int) -> Array:
    """The orthogonal Hadamard matrix of a power of two, Sylvester's construction."""
    matrix = np.ones((1, 1))
    while len(matrix) < size:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]]) / np.sqrt(2)
    return matrix


@dataclass(frozen=True)
class Cut:
    """A value in a graph, cut into blocks.

    Attributes:
        code: Its 8-bit codes, [blocks, rows, inputs of a block].
        largest: The largest value of each row and block, [blocks, rows, 1].
        scale: What a step of a code is, of the largest value.
        zero: The codes' zero point.
        leading: The value's shape without its last axis.
    """

    code: str
    largest: str
    scale: str
    zero: str
    leading: str


def cut(graph: GraphBuilder, x: str, inputs: int) -> Cut:
    """A value [..., inputs] in blocks, the last one filled up with zeros."""
    width = min(BLOCK, inputs)
    count = -(-inputs // width)
    leading = graph.node("Shape", x, end=-1)
    if missing := count * width - inputs:
        last = graph.constant(np.array([-1], np.int64))
        x = graph.node("Pad", x, graph.constant(np.array([0, missing], np.int64)), "", last)
    apart = graph.node("Reshape", x, graph.constant(np.array([-1, count, width], np.int64)))
    return Cut(*_codes(graph, graph.node("Transpose", apart, perm=[1, 0, 2])), leading)


def in_blocks(graph: GraphBuilder, x: Cut, matrix: Array, output: str | None = None) -> str:
    """The product of a value in blocks and a matrix [inputs, outputs]: [..., outputs]."""
    inputs, outputs = matrix.shape
    width = min(BLOCK, inputs)
    count = -(-inputs // width)
    parts = np.pad(matrix, ((0, count * width - inputs), (0, 0))).reshape(count, width, outputs)
    steps = np.maximum(np.abs(parts).max(axis=1, keepdims=True) / 127, TINY).astype(np.float32)
    codes = graph.own_constant(np.round(parts / steps).astype(np.int8))
    zero = graph.own_constant(np.zeros(steps.shape, np.int8))
    names = (x.code, codes, x.scale, graph.own_constant(steps), x.zero, zero)
    product = graph.node("MatMulIntegerToFloat", *names, domain=MICROSOFT)
    real = graph.node("Mul", product, x.largest)
    total = graph.node("ReduceSum", real, graph.constant(np.array([0], np.int64)), keepdims=0)
    shape = graph.node("Concat", x.leading, graph.constant(np.array([outputs], np.int64)), axis=0)
    return graph.node("Reshape", total, shape, output=output)


def quantize_linears(model: onnx.ModelProto, chosen: Callable[[str], bool] = lambda name: True) -> None:
    """Replace products with constant matrices by ones in blocks, in place.

    Args:
        model: With its weights loaded.
        chosen: Whether to replace the node of a name.
    """
    graph, builder = model.graph, GraphBuilder("blocks.")
    constants = {tensor.name: tensor for tensor in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    cuts: dict[str, Cut] = {}
    for node in graph.node:
        weight = constants.get(node.input[1]) if node.op_type == "MatMul" else None
        if weight is not None and len(weight.dims) == 2 and chosen(node.name):
            matrix, x = numpy_helper.to_array(weight), node.input[0]
            if x not in cuts:
                cuts[x] = cut(builder, x, len(matrix))
            in_blocks(builder, cuts[x], matrix, output=node.output[0])
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
