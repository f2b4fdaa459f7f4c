"""Matrix products with constant weights in 8 bits: the DiT's and the text encoder's linear layers.

Two forms, and their trade:

- `DynamicQuantizeMatMul`: the fastest. The whole activation gets one scale, so one outlier coarsens all of it. Weights have one
  scale per output.
- `MatMulNBits` with 8 bits: activations and weights have one scale for every block of inputs. About half as fast, and closer.

The second Linear of a gated feed-forward takes the second form: its input, a product with a gate, has long tails.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from sao_onnx_convert.int8.graph import MICROSOFT

Array = np.ndarray[Any, np.dtype[Any]]

BLOCK = 128

FAST = 4
"""`MatMulNBits` with activations in 8 bits too."""


def quantize_linears(model: onnx.ModelProto, form: Callable[[str, Array], str | None]) -> None:
    """Replace products with constant matrices, in place.

    Args:
        model: With its weights loaded.
        form: For a node's name and weight [inputs, outputs]: "dynamic", "blocks", or None to leave it.
    """
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    nodes, used = [], set()
    for node in graph.node:
        weight = constants.get(node.input[1]) if node.op_type == "MatMul" else None
        result = node
        if weight is not None and len(weight.dims) == 2:
            matrix = numpy_helper.to_array(weight)
            chosen = form(node.name, matrix)
            if chosen is not None:
                rewrite = _dynamic if chosen == "dynamic" else _blocks
                result, tensors = rewrite(node, weight.name, matrix)
                graph.initializer.extend(tensors)
        nodes.append(result)
        used.update(result.input)
    del graph.node[:]
    graph.node.extend(nodes)
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    if all(opset.domain != MICROSOFT for opset in model.opset_import):
        model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))


def _dynamic(node: onnx.NodeProto, name: str, matrix: Array) -> tuple[onnx.NodeProto, list[onnx.TensorProto]]:
    scale = np.maximum(np.abs(matrix).max(axis=0) / 127, 1e-12).astype(np.float32)
    tensors = [
        numpy_helper.from_array(np.round(matrix / scale).astype(np.int8), f"{name}.int8"),
        numpy_helper.from_array(scale, f"{name}.scale"),
        numpy_helper.from_array(np.zeros(len(scale), np.int8), f"{name}.zero"),
    ]
    inputs = [node.input[0], *(tensor.name for tensor in tensors)]
    return helper.make_node("DynamicQuantizeMatMul", inputs, list(node.output), node.name, domain=MICROSOFT), tensors


def _blocks(node: onnx.NodeProto, name: str, matrix: Array) -> tuple[onnx.NodeProto, list[onnx.TensorProto]]:
    attributes, codes, scale = blocks(matrix, FAST)
    tensors = [numpy_helper.from_array(codes, f"{name}.blocks"), numpy_helper.from_array(scale, f"{name}.scale")]
    names = [node.input[0], *(tensor.name for tensor in tensors)]
    return helper.make_node("MatMulNBits", names, list(node.output), node.name, domain=MICROSOFT, **attributes), tensors


def blocks(matrix: Array, accuracy: int) -> tuple[dict[str, Any], Array, Array]:
    """Attributes, codes and scales of a `MatMulNBits` for a weight [inputs, outputs] in 8 bits."""
    inputs, outputs = matrix.shape
    count = -(-inputs // BLOCK)
    padded = np.pad(matrix.T, ((0, 0), (0, count * BLOCK - inputs))).reshape(outputs, count, BLOCK)
    scale = np.maximum(np.abs(padded).max(axis=2) / 127, 1e-12).astype(np.float32)
    codes = (np.round(padded / scale[..., None]) + 128).astype(np.uint8)
    attributes = {"K": inputs, "N": outputs, "bits": 8, "block_size": BLOCK, "accuracy_level": accuracy}
    return attributes, codes, scale.reshape(-1)
