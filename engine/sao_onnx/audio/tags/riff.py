"""Texts in WAV files: the list `INFO`, before the samples."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import BinaryIO

from sao_onnx.audio.tags.texts import NAMES, exactly, within

MAGIC = b"RIFF"
MOST_CHUNKS = 1000
"""That are looked at in a file."""


def with_texts(data: bytes, texts: Mapping[str, str]) -> bytes:
    """A WAV file with a list of texts.

    The chunk `PEAK` is left out: it holds the time of day, and the same clip shall be the same file.

    Args:
        data: The file as libsndfile wrote it.
        texts: By the keys of `NAMES`.
    """
    # The samples, which may be many, are copied only once. A line each: Nuitka 4.3 cannot compile this call in a tuple.
    view = memoryview(data)
    body = [memoryview(b"WAVE")]
    position = 12
    while position + 8 <= len(data):
        id, size = struct.unpack_from("<4sI", data, position)
        end = position + 8 + size + size % 2
        if id == b"data" and texts:
            entries = b"".join(_chunk(NAMES[name].riff, text.encode() + b"\0") for name, text in texts.items())
            body.append(memoryview(_chunk(b"LIST", b"INFO" + entries)))
        if id != b"PEAK":
            body.append(view[position:end])
        position = end
    return b"".join([struct.pack("<4sI", MAGIC, sum(map(len, body))), *body])


def read(stream: BinaryIO) -> dict[str, str]:
    """The texts of a WAV file, from its beginning: those of its first list.

    Raises:
        DamagedError: They are too long, or cut off.
    """
    position = 12
    for _ in range(MOST_CHUNKS):
        stream.seek(position)
        head = stream.read(12)
        if len(head) < 8:
            break
        id, size = struct.unpack_from("<4sI", head)
        if id == b"LIST" and head[8:] == b"INFO" and size >= 4:
            return _texts(exactly(stream.read(within(size - 4)), size - 4))
        position += 8 + size + size % 2
    return {}


def _texts(entries: bytes) -> dict[str, str]:
    names = {name.riff: key for key, name in NAMES.items()}
    found = ((names.get(id), content) for id, content in _chunks(entries))
    return {key: content.partition(b"\0")[0].decode("utf-8", "replace") for key, content in found if key}


def _chunk(id: bytes, content: bytes) -> bytes:
    return struct.pack("<4sI", id, len(content)) + content + b"\0" * (len(content) % 2)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = 0
    while position + 8 <= len(data):
        id, size = struct.unpack_from("<4sI", data, position)
        yield id, data[position + 8 : position + 8 + size]
        position += 8 + size + size % 2
