"""An 8-bit matmul whose result shows whether ONNX Runtime's 8-bit matmuls overflow on this processor.

On x86, most of ONNX Runtime's kernels that multiply unsigned by signed 8-bit numbers add pairs of products in 16 bits, which
saturate (the instruction `vpmaddubsw`): those for AVX2, and those for AVX-512 without VNNI. Kernels that use VNNI, AMX or Arm's
instructions are exact, and so are those for processors older than AVX2. Running one matmul is safer than a list of processor
features: it is right on every operating system, in emulators, and with later releases of ONNX Runtime.
"""

from __future__ import annotations

from typing import Any

import numpy as np

IntArray = np.ndarray[Any, np.dtype[Any]]

LENGTH = 64
"""Values in each sum: a multiple of the vector length of every kernel."""

_UINT8, _INT8, _INT32 = 2, 3, 6  # TensorProto.DataType of onnx.proto.


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
    node = _text(1, "a") + _text(1, "b") + _text(2, "y") + _text(4, "MatMulInteger")
    graph = _field(1, node) + _text(2, "product")
    graph += (
        _field(11, _tensor("a", _UINT8, "mk")) + _field(11, _tensor("b", _INT8, "kn")) + _field(12, _tensor("y", _INT32, "mn"))
    )
    ir_version, opset = _number(1, 8), _number(2, 13)
    return ir_version + _field(7, graph) + _field(8, opset)


# Written in the wire format of protocol buffers, with the field numbers of onnx.proto, because the engine does not depend on
# the onnx package.


def _tensor(name: str, dtype: int, axes: str) -> bytes:
    """A ValueInfoProto with one dynamic axis for each letter of `axes`."""
    shape = b"".join(_field(1, _text(2, axis)) for axis in axes)
    return _text(1, name) + _field(2, _field(1, _number(1, dtype) + _field(2, shape)))


def _text(number: int, text: str) -> bytes:
    return _field(number, text.encode())


def _field(number: int, content: bytes) -> bytes:
    """A length-delimited field of fewer than 128 bytes."""
    return bytes([number << 3 | 2, len(content)]) + content


def _number(number: int, value: int) -> bytes:
    """A varint field with a value below 128."""
    return bytes([number << 3, value])
