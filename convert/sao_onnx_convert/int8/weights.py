"""Weights that are kept small on disk and widened when they are loaded: 8 bits for convolutions, half precision for tables."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SMALL = 4096
"""Weights of fewer numbers stay as they are."""


def store_convolutions_in_int8(model: onnx.ModelProto) -> None:
    """Keep convolution weights as int8 with one scale per output channel, in place; the arithmetic stays single precision."""
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    replaced: list[onnx.NodeProto] = []
    for node in graph.node:
        weight = constants.get(node.input[1]) if node.op_type == "Conv" else None
        if weight is None or np.prod(weight.dims) < SMALL:
            continue
        values = numpy_helper.to_array(weight)
        scale = np.maximum(np.abs(values).max(axis=(1, 2)) / 127, 1e-12).astype(np.float32)
        codes = np.round(values / scale[:, None, None]).astype(np.int8)
        name = weight.name
        graph.initializer.remove(weight)
        graph.initializer.extend(
            [numpy_helper.from_array(codes, f"{name}.int8"), numpy_helper.from_array(scale, f"{name}.scale")]
        )
        replaced.append(helper.make_node("DequantizeLinear", [f"{name}.int8", f"{name}.scale"], [name], axis=0))
    _prepend(graph, replaced)


def store_tables_in_half(model: onnx.ModelProto) -> None:
    """Keep tables that are looked up in half precision, in place; the rows that are used are widened."""
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    nodes = []
    for node in graph.node:
        table = constants.get(node.input[0]) if node.op_type == "Gather" else None
        if table is not None and table.data_type == TensorProto.FLOAT and np.prod(table.dims) >= SMALL:
            half = numpy_helper.from_array(numpy_helper.to_array(table).astype(np.float16), f"{table.name}.half")
            graph.initializer.remove(table)
            graph.initializer.append(half)
            rows = f"{node.output[0]}.half"
            nodes.append(helper.make_node("Gather", [half.name, node.input[1]], [rows], node.name))
            nodes[-1].attribute.extend(node.attribute)
            nodes.append(helper.make_node("Cast", [rows], list(node.output), to=TensorProto.FLOAT))
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


def _prepend(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    following = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *following])
