"""Texts in MP3 files: an ID3 tag of version 2.4 before the sound. Those of version 2.3 are read, too; LAME wrote them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import BinaryIO

from sao_onnx.audio.tags.texts import NAMES, exactly, within

MAGIC = b"ID3"

_LATIN_1, _UTF_16, _UTF_16_BE, _UTF_8 = 0, 1, 2, 3
_CODECS = {_LATIN_1: "latin-1", _UTF_16: "utf-16", _UTF_16_BE: "utf-16-be", _UTF_8: "utf-8"}
_NO_LANGUAGE = b"XXX"
_COMMENT = b"COMM"


def with_texts(data: bytes, texts: Mapping[str, str]) -> bytes:
    """An MP3 file with a tag.

    Args:
        data: The file as libsndfile wrote it, without one.
        texts: By the keys of `NAMES`.
    """
    if not texts:
        return data
    frames = b"".join(_frame(NAMES[name].id3, text.encode()) for name, text in texts.items())
    return MAGIC + bytes([4, 0, 0]) + _sevens(len(frames)) + frames + data


def read(stream: BinaryIO) -> dict[str, str]:
    """The texts of an MP3 file, from its beginning. Tags of other versions, and scrambled ones, are left out.

    Raises:
        DamagedError: They are too long, or cut off.
    """
    stream.seek(0)
    head = stream.read(10)
    if not head.startswith(MAGIC):
        return {}
    version, flags = exactly(head, 10)[3], head[5]
    size = _number(head[6:], 7)
    if version not in (3, 4) or flags & 0xC0:
        return {}
    names = {name.id3: key for key, name in NAMES.items()}
    found: dict[str, str] = {}
    for id, content in _frames(exactly(stream.read(within(size)), size), 7 if version == 4 else 8):
        text = _text(id, content)
        if id in names and text is not None:
            found.setdefault(names[id], text)
    return found


def _frame(id: bytes, text: bytes) -> bytes:
    # A comment has a language and a name, which is empty.
    content = bytes([_UTF_8]) + (_NO_LANGUAGE + b"\0" if id == _COMMENT else b"") + text
    return id + _sevens(len(content)) + b"\0\0" + content


def _frames(data: bytes, bits: int) -> Iterator[tuple[bytes, bytes]]:
    """The frames that are stored plainly. Sizes have so many bits a byte."""
    position = 0
    while position + 10 <= len(data) and data[position]:
        size = _number(data[position + 4 : position + 8], bits)
        start = position + 10
        if data[position + 9] == 0:
            yield data[position : position + 4], data[start : start + size]
        position = start + size


def _text(id: bytes, content: bytes) -> str | None:
    """The text of a frame; None if it is none, or a comment with a name."""
    codec = _CODECS.get(content[0]) if content else None
    if codec is None:
        return None
    text = content[1:]
    if id == _COMMENT:
        decoded = text[3:].decode(codec, "replace")
        name, separated, decoded = decoded.partition("\0")
        return decoded.lstrip("\ufeff").rstrip("\0") if separated and not name.strip("\ufeff") else None
    return text.decode(codec, "replace").rstrip("\0")


def _sevens(number: int) -> bytes:
    """A number in four bytes of seven bits."""
    return bytes(number >> shift & 0x7F for shift in (21, 14, 7, 0))


def _number(data: bytes, bits: int) -> int:
    number = 0
    for byte in data:
        number = number << bits | byte & (2**bits - 1)
    return number
