"""8-bit products that would overflow: whether they do on a processor, and the same graph with products that do not.

Most of ONNX Runtime's kernels for unsigned times signed 8-bit numbers on x86 add pairs of products in 16 bits that saturate (the
instruction `vpmaddubsw`): those for AVX2, and those for AVX-512 without VNNI. The dot products of VNNI and of Arm, AMX, and the
kernels of processors older than AVX2 are exact. Whether they overflow is found by trying the largest product there is: that
holds on every system, in emulators, and for releases of ONNX Runtime to come.

Its kernels for unsigned weights are exact everywhere, but take up to eight times as long where signed ones are dot products. So
a bundle's weights are signed, and become unsigned when a graph is loaded where that is needed: `w + 128` with a zero point of
128 is the same integer. ONNX Runtime can do that itself (`session.x64quantprecision`), but it takes three times as long to load,
keeps a third more memory, and refuses graphs whose products share a zero point.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sao_onnx.protobuf import Field, bytes_field, fields, number_field, text_field

Array = np.ndarray[Any, np.dtype[Any]]

LENGTH = 64
"""Inputs of the product that is tried: whole vectors of any kernel."""

WEIGHTS = {"MatMulInteger": (1, 3), "MatMulIntegerToFloat": (1, 5), "QLinearConv": (3, 5)}
"""Which inputs of each 8-bit operator are its weights and their zero points."""

_UINT8, _INT8, _INT32 = 2, 3, 6
_SIGN = 0x80

# Numbers of fields in onnx.proto.
_GRAPH = 7
_NODE, _INITIALIZER = 1, 5
_NODE_INPUT, _NODE_OPERATOR = 1, 4
_DIMS, _DTYPE, _NAME, _RAW, _EXTERNAL = 1, 2, 8, 9, 13
_KEY, _VALUE = 1, 2


def extreme() -> dict[str, Array]:
    """The largest activations and weights there are: two rows, because one alone has kernels of its own."""
    return {"a": np.full((2, LENGTH), 255, np.uint8), "b": np.full((LENGTH, 32), 127, np.int8)}


def is_exact(found: Array) -> bool:
    """Whether a product of `extreme` is what integers give."""
    return bool((found == 255 * 127 * LENGTH).all())


def product() -> bytes:
    """An ONNX model of one `MatMulInteger`, `y = a · b`: unsigned [m, k] by signed [k, n]."""
    node = text_field(1, "a") + text_field(1, "b") + text_field(2, "y") + text_field(4, "MatMulInteger")
    graph = bytes_field(1, node) + text_field(2, "product")
    graph += bytes_field(11, _described("a", _UINT8, "mk")) + bytes_field(11, _described("b", _INT8, "kn"))
    graph += bytes_field(12, _described("y", _INT32, "mn"))
    return number_field(1, 8) + bytes_field(_GRAPH, graph) + bytes_field(8, number_field(2, 13))


def _described(name: str, dtype: int, axes: str) -> bytes:
    shape = b"".join(bytes_field(1, text_field(2, axis)) for axis in axes)
    return text_field(1, name) + bytes_field(2, bytes_field(1, number_field(1, dtype) + bytes_field(2, shape)))


@dataclass(frozen=True)
class UnsignedGraph:
    """A graph whose 8-bit weights are unsigned.

    Attributes:
        model: The ONNX model.
        weights: What takes the place of its weights in files, by name, uint8.
    """

    model: bytes
    weights: dict[str, Array]


def with_unsigned_weights(path: Path) -> UnsignedGraph | None:
    """A graph with the signed weights of its 8-bit products made unsigned; None if it has no such product.

    Args:
        path: The `.onnx` file, its weights beside it.

    Raises:
        ValueError: The file is no ONNX model, or its weights are not where it says.
        OSError: A file cannot be read.
    """
    data = bytearray(path.read_bytes())
    (graph,) = (field for field in fields(data, 0, len(data)) if field.number == _GRAPH)
    initializers: list[Field] = []
    wanted: set[str] = set()
    for field in fields(data, graph.start, graph.end):
        if field.number == _NODE:
            wanted.update(_weights(data, field))
        elif field.number == _INITIALIZER:
            initializers.append(field)
    weights: dict[str, Array] = {}
    changed = False
    for field in initializers:
        tensor = _Tensor(data, field)
        if tensor.name in wanted and tensor.dtype == _INT8:
            changed = True
            weights.update(tensor.make_unsigned(path.parent))
    return UnsignedGraph(bytes(data), weights) if changed else None


def _weights(data: bytearray, node: Field) -> Iterator[str]:
    """Names of the weights and weight zero points that a node reads, if it is an 8-bit product."""
    inputs, operator = [], ""
    for field in fields(data, node.start, node.end):
        if field.number == _NODE_INPUT:
            inputs.append(_text(data, field))
        elif field.number == _NODE_OPERATOR:
            operator = _text(data, field)
    if operator in WEIGHTS:
        weight, zero = WEIGHTS[operator]
        if zero >= len(inputs) or not inputs[zero]:
            raise ValueError(f"a {operator} without a zero point of its weights")
        yield inputs[weight]
        yield inputs[zero]


class _Tensor:
    """A constant in a model's bytes."""

    def __init__(self, data: bytearray, tensor: Field) -> None:
        self._data = data
        self.name, self.dtype = "", 0
        self._dtype_at, self._raw = 0, Field(0, 0, 0, 0)
        self._dims: list[int] = []
        self._external: dict[str, str] = {}
        for field in fields(data, tensor.start, tensor.end):
            if field.number == _NAME:
                self.name = _text(data, field)
            elif field.number == _DTYPE:
                self.dtype, self._dtype_at = field.value, field.start
            elif field.number == _DIMS:
                self._dims.append(field.value)
            elif field.number == _RAW:
                self._raw = field
            elif field.number == _EXTERNAL:
                entry = {part.number: _text(data, part) for part in fields(data, field.start, field.end)}
                self._external[entry[_KEY]] = entry[_VALUE]

    def make_unsigned(self, folder: Path) -> dict[str, Array]:
        """Change type and value, in the model's bytes where they are there; from a file, the new values by name."""
        self._data[self._dtype_at] = _UINT8
        if not self._external:
            raw = np.frombuffer(self._data, np.uint8)[self._raw.start : self._raw.end]
            raw ^= _SIGN
            return {}
        count, offset = int(np.prod(self._dims)), int(self._external.get("offset", "0"))
        values = np.fromfile(folder / self._external["location"], np.uint8, count, offset=offset)
        if len(values) != count:
            raise ValueError(f"{self.name} is cut short")
        values ^= _SIGN
        return {self.name: values.reshape(self._dims)}


def _text(data: bytearray, field: Field) -> str:
    return data[field.start : field.end].decode()
