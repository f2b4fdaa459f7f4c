"""A product that tells whether 8-bit products overflow on a processor.

Most of ONNX Runtime's kernels for unsigned times signed 8-bit numbers on x86 add pairs of products in 16 bits that saturate
(the instruction `vpmaddubsw`): those for AVX2, and those for AVX-512 without VNNI. The dot products of VNNI and of Arm, AMX,
and the kernels of processors older than AVX2 are exact. Trying is surer than a list of processor features: it holds on every
system, in emulators, and for releases of ONNX Runtime to come.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

LENGTH = 64
"""Inputs of the product: whole vectors of any kernel."""

_UINT8, _INT8, _INT32 = 2, 3, 6


def extreme() -> dict[str, Array]:
    """The largest activations and weights there are: two rows, because one alone has kernels of its own."""
    return {"a": np.full((2, LENGTH), 255, np.uint8), "b": np.full((LENGTH, 32), 127, np.int8)}


def is_exact(found: Array) -> bool:
    """Whether a product of `extreme` is what integers give."""
    return bool((found == 255 * 127 * LENGTH).all())


def product() -> bytes:
    """An ONNX model of one `MatMulInteger`, `y = a · b`: unsigned [m, k] by signed [k, n]."""
    node = _text(1, "a") + _text(1, "b") + _text(2, "y") + _text(4, "MatMulInteger")
    graph = _field(1, node) + _text(2, "product")
    graph += (
        _field(11, _value("a", _UINT8, "mk")) + _field(11, _value("b", _INT8, "kn")) + _field(12, _value("y", _INT32, "mn"))
    )
    ir_version, opset = _number(1, 8), _number(2, 13)
    return ir_version + _field(7, graph) + _field(8, opset)


# The wire format of protocol buffers, and the field numbers of onnx.proto: the engine does without the onnx package.


def _value(name: str, dtype: int, axes: str) -> bytes:
    shape = b"".join(_field(1, _text(2, axis)) for axis in axes)
    return _text(1, name) + _field(2, _field(1, _number(1, dtype) + _field(2, shape)))


def _text(number: int, text: str) -> bytes:
    return _field(number, text.encode())


def _field(number: int, content: bytes) -> bytes:
    """A field of bytes, fewer than 128."""
    return bytes([number << 3 | 2, len(content)]) + content


def _number(number: int, value: int) -> bytes:
    """A field of a number below 128."""
    return bytes([number << 3, value])
