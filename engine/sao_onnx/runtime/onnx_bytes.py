"""Small ONNX models as bytes, in the wire format of protocol buffers with the field numbers of onnx.proto.

Written by hand because the engine does not depend on the onnx package.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np

FLOAT, UINT8, INT8, INT32 = 1, 2, 3, 6
"""Number formats: TensorProto.DataType."""

MICROSOFT = "com.microsoft"
"""The domain of ONNX Runtime's own operators."""

_TYPES = {"float32": FLOAT, "uint8": UINT8, "int8": INT8, "int32": INT32}


def model(
    nodes: Sequence[bytes], inputs: Sequence[bytes], outputs: Sequence[bytes], constants: Sequence[bytes] = (), opset: int = 13
) -> bytes:
    """A serialized model.

    Args:
        nodes: Made by `node`, each after those whose outputs it reads.
        inputs: Made by `tensor`.
        outputs: Made by `tensor`.
        constants: Made by `constant`.
        opset: Version of ONNX's own operators.
    """
    parts = [(1, nodes), (5, constants), (11, inputs), (12, outputs)]
    graph = _text(2, "graph") + b"".join(_field(number, content) for number, contents in parts for content in contents)
    ours, theirs = _number(2, opset), _text(1, MICROSOFT) + _number(2, 1)
    ir_version = _number(1, 8)
    return ir_version + _field(7, graph) + _field(8, ours) + _field(8, theirs)


def node(operator: str, inputs: Sequence[str], output: str, domain: str = "", **numbers: int) -> bytes:
    """A node with one output and whole numbers as attributes."""
    whole = 2  # AttributeProto.AttributeType.INT
    attributes = (_text(1, name) + _number(3, value) + _number(20, whole) for name, value in numbers.items())
    return (
        b"".join(_text(1, name) for name in inputs)
        + _text(2, output)
        + _text(4, operator)
        + b"".join(_field(5, attribute) for attribute in attributes)
        + _text(7, domain)
    )


def tensor(name: str, dtype: int, axes: str) -> bytes:
    """An input or output with one dynamic axis for each letter of `axes`."""
    shape = b"".join(_field(1, _text(2, axis)) for axis in axes)
    return _text(1, name) + _field(2, _field(1, _number(1, dtype) + _field(2, shape)))


def constant(name: str, value: np.ndarray[Any, np.dtype[Any]]) -> bytes:
    """A constant of one of the number formats above."""
    stored = np.ascontiguousarray(value).astype(value.dtype.newbyteorder("<"))
    dims = b"".join(_number(1, size) for size in value.shape)
    return dims + _number(2, _TYPES[value.dtype.name]) + _text(8, name) + _field(9, stored.tobytes())


def domain_version(stream: BinaryIO, domain: str) -> int | None:
    """Version of a domain of operators that a model calls; None where it calls none, or where the bytes are no model.

    Args:
        stream: The model, from its beginning. Little of it is read: its graph is passed over.
        domain: The domain.
    """
    imports = 8
    for number, length in _fields(stream):
        if number != imports or length > MOST_OF_AN_IMPORT:
            stream.seek(length, os.SEEK_CUR)
            continue
        entry, texts, numbers = io.BytesIO(stream.read(length)), {}, dict[int, int]()
        for inner, inner_length in _fields(entry, numbers):
            texts[inner] = entry.read(inner_length)
        if texts.get(1) == domain.encode():
            return numbers.get(2, 0)
    return None


MOST_OF_AN_IMPORT = 1_000
"""Bytes of the name and version of a domain."""

MOST_FIELDS = 1_000
"""Of a model, whose graph is one, or of an import. More are not looked at, and models end before so many bytes:"""

MOST_BYTES = 2**40


def _fields(stream: BinaryIO, numbers: dict[int, int] | None = None) -> Iterator[tuple[int, int]]:
    """The number of each field with a length and that length, with the stream at its content, which the caller reads or skips.

    Whole numbers go into `numbers`. Ends where the message does, or where it is none.
    """
    for _ in range(MOST_FIELDS):
        if (key := _read_varint(stream)) is None:
            return
        number, kind = key >> 3, key & 7
        if kind == 0 and (value := _read_varint(stream)) is not None:
            if numbers is not None:
                numbers[number] = value
        elif kind in (1, 5):
            stream.seek(8 if kind == 1 else 4, os.SEEK_CUR)
        elif kind == 2 and (length := _read_varint(stream)) is not None and length < MOST_BYTES:
            yield number, length
        else:
            return


def _read_varint(stream: BinaryIO) -> int | None:
    """A whole number of up to 64 bits; None at the end."""
    value = 0
    for shift in range(0, 64, 7):
        byte = stream.read(1)
        if not byte:
            return None
        value |= (byte[0] & 127) << shift
        if byte[0] < 128:
            return value
    return None


def _text(number: int, text: str) -> bytes:
    return _field(number, text.encode())


def _field(number: int, content: bytes) -> bytes:
    """A length-delimited field."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _number(number: int, value: int) -> bytes:
    """A field with a whole number, at least 0."""
    return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    """Seven bits in each byte, the lowest first; the highest bit says that more follow."""
    made = bytearray()
    while value > 127:
        made.append(value & 127 | 128)
        value >>= 7
    made.append(value)
    return bytes(made)
