"""Matrix products with constant weights in 8 bits: the linear layers of the DiT and of the text encoder.

Two forms, and their trade:

- rows: `MatMulIntegerToFloat` with weights of one scale per output and activations of one scale per row, which is that of its
  largest value. Symmetric, so nothing needs to be measured but that value.
- blocks: `MatMulNBits`, where activations and weights have one scale for every block of inputs. Half as fast, and closer where
  a few inputs are far larger than the others.

The second Linear of a gated feed-forward reads a product with a gate, which has long tails: 8 bits for its largest value leave
few for the others. `rotated_rows` mixes every 64 inputs with a Hadamard matrix before, and with its inverse in the weights, so
that the tails spread over all of them (Ashkboos et al., "QuaRot", 2024). The product is the same but for rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from sao_onnx_convert.builder import MICROSOFT, Array, GraphBuilder

BLOCK = 128

FAST = 4
"""`MatMulNBits` with activations in 8 bits too."""

MIXED = 64
"""Inputs that a rotation mixes."""

TINY = 1e-12


def rows(graph: GraphBuilder, x: str, matrices: Sequence[Array]) -> list[str]:
    """Products of `x` [b, n, inputs] with matrices [inputs, outputs]. It is quantized once for all of them."""
    largest = graph.node("ReduceMax", graph.node("Abs", x), graph.constant(np.array([-1], np.int64)), keepdims=1)
    # A row of zeros has no scale.
    largest = graph.node("Max", largest, graph.constant(np.array(TINY, np.float32)))
    scale, zero = graph.constant(np.array(1 / 127, np.float32)), graph.constant(np.array(128, np.uint8))
    code = graph.node("QuantizeLinear", graph.node("Div", x, largest), scale, zero)
    products = []
    for matrix in matrices:
        steps = np.maximum(np.abs(matrix).max(axis=0) / 127, TINY).astype(np.float32)
        weight = [np.round(matrix / steps).astype(np.int8), steps, np.zeros(len(steps), np.int8)]
        codes, weight_scale, weight_zero = map(graph.own_constant, weight)
        inputs = (code, codes, scale, weight_scale, zero, weight_zero)
        products.append(graph.node("Mul", graph.node("MatMulIntegerToFloat", *inputs, domain=MICROSOFT), largest))
    return products


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


def quantize_linears(model: onnx.ModelProto, chosen: Callable[[str], bool] = lambda name: True) -> None:
    """Replace products with constant matrices by ones in blocks, in place.

    Args:
        model: With its weights loaded.
        chosen: Whether to replace the node of a name.
    """
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    nodes, used = [], set()
    for node in graph.node:
        weight = constants.get(node.input[1]) if node.op_type == "MatMul" else None
        if weight is not None and len(weight.dims) == 2 and chosen(node.name):
            result, tensors = _in_blocks(node, weight.name, numpy_helper.to_array(weight))
            graph.initializer.extend(tensors)
        else:
            result = node
        nodes.append(result)
        used.update(result.input)
    del graph.node[:]
    graph.node.extend(nodes)
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    if all(opset.domain != MICROSOFT for opset in model.opset_import):
        model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))


def _in_blocks(node: onnx.NodeProto, name: str, matrix: Array) -> tuple[onnx.NodeProto, list[onnx.TensorProto]]:
    attributes, codes, scale = blocks(matrix)
    tensors = [numpy_helper.from_array(codes, f"{name}.blocks"), numpy_helper.from_array(scale, f"{name}.scale")]
    names = [node.input[0], *(tensor.name for tensor in tensors)]
    return helper.make_node("MatMulNBits", names, list(node.output), node.name, domain=MICROSOFT, **attributes), tensors


def blocks(matrix: Array) -> tuple[dict[str, Any], Array, Array]:
    """Attributes, codes and scales of a `MatMulNBits` for a weight [inputs, outputs] in 8 bits."""
    inputs, outputs = matrix.shape
    count = -(-inputs // BLOCK)
    padded = np.pad(matrix.T, ((0, 0), (0, count * BLOCK - inputs))).reshape(outputs, count, BLOCK)
    scale = np.maximum(np.abs(padded).max(axis=2) / 127, TINY).astype(np.float32)
    codes = (np.round(padded / scale[..., None]) + 128).astype(np.uint8)
    attributes = {"K": inputs, "N": outputs, "bits": 8, "block_size": BLOCK, "accuracy_level": FAST}
    return attributes, codes, scale.reshape(-1)
