"""ONNX graphs of one matmul or one convolution each, in all forms of 8 bits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ROWS, INPUTS, OUTPUTS = 128, 512, 512
"""Sizes of the matmuls."""

CHANNELS, FRAMES, KERNEL = 128, 512, 7
"""Sizes of the convolutions."""

BLOCK = 128
"""Inputs that share a scale in `MatMulNBits`."""


@dataclass(frozen=True)
class _Tensor:
    """An input or output: name, type of `TensorProto`, shape."""

    name: str
    type: int
    shape: list[int]


def write_matmuls(folder: Path) -> list[str]:
    """Write a graph for each form of a matmul.

    Returns:
        Names of the files without suffix; that of single precision comes first.
    """
    rng = np.random.default_rng(0)
    float_x, float_y = _Tensor("x", TensorProto.FLOAT, [ROWS, INPUTS]), _Tensor("y", TensorProto.FLOAT, [ROWS, OUTPUTS])
    weight = rng.normal(size=(INPUTS, OUTPUTS)).astype(np.float32)
    names = ["MatMul_f32"]
    _write(folder / names[0], helper.make_node("MatMul", ["x", "w"], ["y"]), float_x, float_y, {"w": weight})
    types = {"u8": (TensorProto.UINT8, np.uint8), "s8": (TensorProto.INT8, np.int8)}
    for a, b in (("u8", "s8"), ("u8", "u8"), ("s8", "s8")):
        names.append(f"MatMulInteger_{a}{b}")
        quantized = rng.integers(0, 127, weight.shape).astype(types[b][1])
        x, y = _Tensor("x", types[a][0], [ROWS, INPUTS]), _Tensor("y", TensorProto.INT32, [ROWS, OUTPUTS])
        _write(folder / names[-1], helper.make_node("MatMulInteger", ["x", "w"], ["y"]), x, y, {"w": quantized})
    for bits in (8, 4):
        names.append(f"MatMulNBits_{bits}_bits")
        quantized = rng.integers(0, 255, (OUTPUTS, INPUTS // BLOCK, BLOCK * bits // 8)).astype(np.uint8)
        scale = rng.uniform(0.01, 0.02, OUTPUTS * (INPUTS // BLOCK)).astype(np.float32)
        sizes: dict[str, Any] = {"K": INPUTS, "N": OUTPUTS, "bits": bits, "block_size": BLOCK, "accuracy_level": 4}
        node = helper.make_node("MatMulNBits", ["x", "w", "s"], ["y"], domain="com.microsoft", **sizes)
        _write(folder / names[-1], node, float_x, float_y, {"w": quantized, "s": scale})
    return names


def write_convolutions(folder: Path) -> list[str]:
    """Write a graph for each form of a convolution.

    Returns:
        Names of the files without suffix; that of single precision comes first.
    """
    rng = np.random.default_rng(0)
    shape = [1, CHANNELS, FRAMES]
    padded: dict[str, Any] = {"kernel_shape": [KERNEL], "pads": [KERNEL // 2] * 2}
    weight = rng.normal(size=(CHANNELS, CHANNELS, KERNEL)).astype(np.float32)
    names = ["Conv_f32"]
    x, y = _Tensor("x", TensorProto.FLOAT, shape), _Tensor("y", TensorProto.FLOAT, shape)
    _write(folder / names[0], helper.make_node("Conv", ["x", "w"], ["y"], **padded), x, y, {"w": weight})
    x, y = _Tensor("x", TensorProto.UINT8, shape), _Tensor("y", TensorProto.UINT8, shape)
    for b, dtype, zero in (("s8", np.int8, 0), ("u8", np.uint8, 128)):
        names.append(f"QLinearConv_u8{b}")
        constants: dict[str, np.ndarray] = {
            "w": rng.integers(0, 127, weight.shape).astype(dtype),
            "ws": np.full(CHANNELS, 0.01, np.float32),
            "wz": np.full(CHANNELS, zero, dtype),
            "xs": np.array(0.01, np.float32),
            "xz": np.array(128, np.uint8),
            "ys": np.array(10.0, np.float32),
            "yz": np.array(128, np.uint8),
        }
        node = helper.make_node("QLinearConv", ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"], ["y"], **padded)
        _write(folder / names[-1], node, x, y, constants)
    return names


def _write(path: Path, node: onnx.NodeProto, x: _Tensor, y: _Tensor, constants: dict[str, np.ndarray]) -> None:
    """Write a graph of one node. `.onnx` is added to the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = [numpy_helper.from_array(array, key) for key, array in constants.items()]
    inputs, outputs = ([helper.make_tensor_value_info(end.name, end.type, end.shape)] for end in (x, y))
    graph = helper.make_graph([node], path.name, inputs, outputs, tensors)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path.with_name(f"{path.name}.onnx"))
