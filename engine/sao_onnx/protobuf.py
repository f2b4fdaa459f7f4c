"""The wire format of protocol buffers, as far as the engine needs it: it does without the onnx package."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_SIZES = {_FIXED64: 8, _FIXED32: 4}


class Field(NamedTuple):
    """A field of a message.

    Attributes:
        number: Which one.
        start: Where its content begins in the data.
        end: Where it ends.
        value: Of a number; 0 for others.
    """

    number: int
    start: int
    end: int
    value: int


def fields(data: bytes | bytearray, start: int, end: int) -> Iterator[Field]:
    """The fields of the message between two places.

    Raises:
        ValueError: There is no message, or it is cut short.
    """
    while start < end:
        key, start = _varint(data, start, end)
        number, kind, value = key >> 3, key & 7, 0
        if kind == _VARINT:
            value, stop = _varint(data, start, end)
        elif kind == _BYTES:
            size, start = _varint(data, start, end)
            stop = start + size
        elif kind in _SIZES:
            stop = start + _SIZES[kind]
        else:
            raise ValueError(f"a field of kind {kind}")
        if stop > end:
            raise ValueError("a field beyond the end")
        yield Field(number, start, stop, value)
        start = stop


def _varint(data: bytes | bytearray, start: int, end: int) -> tuple[int, int]:
    """A number of seven bits a byte, the lowest first; and where it ends."""
    value = shift = 0
    while start < end:
        byte = data[start]
        start += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, start
        shift += 7
    raise ValueError("a number beyond the end")


def text_field(number: int, text: str) -> bytes:
    """A field of text, of fewer than 128 bytes."""
    return bytes_field(number, text.encode())


def bytes_field(number: int, content: bytes) -> bytes:
    """A field of fewer than 128 bytes, a message for instance."""
    return bytes([number << 3 | _BYTES, len(content)]) + content


def number_field(number: int, value: int) -> bytes:
    """A field of a number below 128."""
    return bytes([number << 3 | _VARINT, value])
