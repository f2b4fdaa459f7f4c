"""An 8-bit matmul whose result shows whether ONNX Runtime's 8-bit matmuls overflow on this processor.

On x86, most of ONNX Runtime's kernels that multiply unsigned by signed 8-bit numbers add pairs of products in 16 bits, which
saturate (the instruction `vpmaddubsw`): those for AVX2, and those for AVX-512 without VNNI. Kernels that use VNNI, AMX or Arm's
instructions are exact, and so are those for processors older than AVX2. Running one matmul is safer than a list of processor
features: it is right on every operating system, in emulators, and with later releases of ONNX Runtime.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sao_onnx.runtime.onnx_bytes import INT8, INT32, UINT8, model, node, tensor

IntArray = np.ndarray[Any, np.dtype[Any]]

LENGTH = 64
"""Values in each sum: a multiple of the vector length of every kernel."""


def largest_inputs() -> dict[str, IntArray]:
    """The largest possible activations `a`, uint8 [2, 64], and weights `b`, int8 [64, 32].

    There are two rows because ONNX Runtime has other kernels for a single row.
    """
    return {"a": np.full((2, LENGTH), 255, np.uint8), "b": np.full((LENGTH, 32), 127, np.int8)}


def is_exact(result: IntArray) -> bool:
    """Whether the matmul of `largest_inputs` did not overflow.

    Args:
        result: Output of the model, int32 [2, 32].
    """
    return bool((result == 255 * 127 * LENGTH).all())


def matmul_model() -> bytes:
    """A serialized ONNX model of one `MatMulInteger`: a, uint8 [m, k], by b, int8 [k, n], is y, int32 [m, n]."""
    inputs = [tensor("a", UINT8, "mk"), tensor("b", INT8, "kn")]
    return model([node("MatMulInteger", ["a", "b"], "y")], inputs, [tensor("y", INT32, "mn")])
