"""A large matmul, alone in a graph: how fast it runs is what ONNX Runtime can reach on this processor."""

from __future__ import annotations

from typing import Any

import numpy as np

from sao_onnx.bundle.manifest import Precision
from sao_onnx.runtime.onnx_bytes import FLOAT, MICROSOFT, UINT8, constant, model, node, tensor

ROWS, DEPTH, COLUMNS = 1024, 4096, 1024
"""Sizes of the matrices: [ROWS, DEPTH] by [DEPTH, COLUMNS].

Large enough that starting threads does not count, and small enough for a Raspberry Pi 4: a second or two with one thread.
"""

OPERATIONS = 2 * ROWS * DEPTH * COLUMNS
"""Multiplications and additions of one run."""

MatmulInput = np.ndarray[Any, np.dtype[Any]]


def large_matmul(precision: Precision) -> tuple[bytes, dict[str, MatmulInput]]:
    """The model, and its input "a".

    The weights are constants, as in a bundle, so that ONNX Runtime arranges them once. Only the largest value of the product is
    returned: copying the whole product would count.

    Args:
        precision: "int8" for unsigned activations by signed weights with a scale for each column, the operator that the DiT of
            an int8 bundle is made of; "fp32" for single precision.
    """
    random = np.random.default_rng(0)
    largest = node("ReduceMax", ["product"], "y", keepdims=0)
    if precision == "fp32":
        weights = random.standard_normal((DEPTH, COLUMNS), dtype=np.float32)
        a = random.standard_normal((ROWS, DEPTH), dtype=np.float32)
        made = model(
            [node("MatMul", ["a", "b"], "product"), largest],
            [tensor("a", FLOAT, "mk")],
            [tensor("y", FLOAT, "")],
            [constant("b", weights)],
        )
        return made, {"a": a}
    constants: dict[str, MatmulInput] = {
        "b": random.integers(-127, 128, (DEPTH, COLUMNS), dtype=np.int8),
        "a_scale": np.array(1 / 127, np.float32),
        "b_scale": np.full(COLUMNS, 1 / 127, np.float32),
        "a_zero": np.array(128, np.uint8),
        "b_zero": np.zeros(COLUMNS, np.int8),
    }
    inputs = ["a", "b", "a_scale", "b_scale", "a_zero", "b_zero"]
    made = model(
        [node("MatMulIntegerToFloat", inputs, "product", MICROSOFT), largest],
        [tensor("a", UINT8, "mk")],
        [tensor("y", FLOAT, "")],
        [constant(name, value) for name, value in constants.items()],
    )
    return made, {"a": random.integers(0, 256, (ROWS, DEPTH), dtype=np.uint8)}
