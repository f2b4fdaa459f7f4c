"""Weights that are stored in 8 bits and computed with in single precision.

Weights of convolutions are dequantized when the graph is loaded, rows of embedding tables when they are looked up.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from sao_onnx_convert.quantize.constants import INT8_MAX, MIN_SCALE

MIN_SIZE = 4096
"""Weights of fewer numbers stay in single precision."""


def store_convolutions_in_int8(model: onnx.ModelProto) -> None:
    """Store the weights of convolutions as int8, with one scale for each output channel; in place.

    Args:
        model: With its weights loaded.
    """
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    added: list[onnx.NodeProto] = []
    for node in graph.node:
        weight = constants.get(node.input[1]) if node.op_type == "Conv" else None
        if weight is None or np.prod(weight.dims) < MIN_SIZE:
            continue
        values = numpy_helper.to_array(weight)
        scale = np.maximum(np.abs(values).max(axis=(1, 2)) / INT8_MAX, MIN_SCALE).astype(np.float32)
        quantized = np.round(values / scale[:, None, None]).astype(np.int8)
        name = weight.name
        graph.initializer.remove(weight)
        graph.initializer.extend(
            [numpy_helper.from_array(quantized, f"{name}.int8"), numpy_helper.from_array(scale, f"{name}.scale")]
        )
        added.append(helper.make_node("DequantizeLinear", [f"{name}.int8", f"{name}.scale"], [name], axis=0))
    others = list(graph.node)
    del graph.node[:]
    graph.node.extend([*added, *others])


def store_tables_in_int8(model: onnx.ModelProto) -> None:
    """Store embedding tables as int8, with one scale for each row; in place. Only the rows that are used are dequantized.

    Args:
        model: With its weights loaded.
    """
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    nodes = []
    for node in graph.node:
        table = constants.get(node.input[0]) if node.op_type == "Gather" else None
        if table is None or table.data_type != TensorProto.FLOAT or len(table.dims) != 2 or np.prod(table.dims) < MIN_SIZE:
            nodes.append(node)
            continue
        values = numpy_helper.to_array(table)
        scale = np.maximum(np.abs(values).max(axis=1, keepdims=True) / INT8_MAX, MIN_SCALE).astype(np.float32)
        name, rows, ids = table.name, node.output[0], node.input[1]
        graph.initializer.remove(table)
        graph.initializer.append(numpy_helper.from_array(np.round(values / scale).astype(np.int8), f"{name}.int8"))
        graph.initializer.append(numpy_helper.from_array(scale, f"{name}.scale"))
        nodes.append(helper.make_node("Gather", [f"{name}.int8", ids], [f"{rows}.int8"], axis=0))
        nodes.append(helper.make_node("Gather", [f"{name}.scale", ids], [f"{rows}.scale"], axis=0))
        nodes.append(helper.make_node("Cast", [f"{rows}.int8"], [f"{rows}.wide"], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("Mul", [f"{rows}.wide", f"{rows}.scale"], [rows], node.name))
    del graph.node[:]
    graph.node.extend(nodes)
