"""Texts in FLAC files: a block of metadata."""

from __future__ import annotations

from collections.abc import Mapping
from typing import BinaryIO

from sao_onnx.audio.tags import vorbis_comments
from sao_onnx.audio.tags.texts import exactly, within

MAGIC = b"fLaC"
MOST_BLOCKS = 1000
"""That are looked at in a file."""

_COMMENTS, _LAST = 4, 0x80


def with_texts(data: bytes, texts: Mapping[str, str]) -> bytes:
    """A FLAC file with other texts.

    Args:
        data: The file as libsndfile wrote it.
        texts: By the keys of `NAMES`.
    """
    parts, position, last = [MAGIC], 4, False
    while not last:
        kind, size = data[position], int.from_bytes(data[position + 1 : position + 4], "big")
        block = data[position + 4 : position + 4 + size]
        last, position = bool(kind & _LAST), position + 4 + size
        if kind & ~_LAST == _COMMENTS:
            block = vorbis_comments.with_texts(block, texts)
        parts += [bytes([kind]), len(block).to_bytes(3, "big"), block]
    return b"".join([*parts, memoryview(data)[position:]])


def read(stream: BinaryIO) -> dict[str, str]:
    """The texts of a FLAC file, from its beginning.

    Raises:
        DamagedError: They are too long, or cut off.
    """
    position = 4
    for _ in range(MOST_BLOCKS):
        stream.seek(position)
        head = stream.read(4)
        if len(head) < 4:
            break
        kind, size = head[0], int.from_bytes(head[1:], "big")
        if kind & ~_LAST == _COMMENTS:
            return vorbis_comments.read(exactly(stream.read(within(size)), size))
        if kind & _LAST:
            break
        position += 4 + size
    return {}
