"""The block of texts that FLAC, Vorbis and Opus share: who encoded the file, and lines of `NAME=text`."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from sao_onnx.audio.tags.texts import NAMES, DamagedError

_FORMER = {"SOFTWARE": "software"}
"""Names that libsndfile wrote."""


def with_texts(block: bytes, texts: Mapping[str, str]) -> bytes:
    """A block with other texts, by the same encoder.

    Args:
        block: As libsndfile wrote it; what follows its lines is ignored.
        texts: By the keys of `NAMES`.
    """
    lines = [f"{NAMES[name].vorbis}={text}".encode() for name, text in texts.items()]
    vendor, _ = _field(block, 0)
    return b"".join([_counted(vendor), struct.pack("<I", len(lines)), *map(_counted, lines)])


def read(block: bytes) -> dict[str, str]:
    """The texts of a block.

    Raises:
        DamagedError: They are cut off.
    """
    names = {name.vorbis: key for key, name in NAMES.items()} | _FORMER
    found: dict[str, str] = {}
    _, position = _field(block, 0)
    count, position = _number(block, position)
    # However large the count is, the block ends.
    for _ in range(count):
        line, position = _field(block, position)
        name, _, text = line.decode("utf-8", "replace").partition("=")
        if key := names.get(name.upper()):
            found[key] = text
    return found


def _counted(content: bytes) -> bytes:
    return struct.pack("<I", len(content)) + content


def _number(block: bytes, position: int) -> tuple[int, int]:
    """A number, and where it ends."""
    if position + 4 > len(block):
        raise DamagedError("its tags end before they should")
    return struct.unpack_from("<I", block, position)[0], position + 4


def _field(block: bytes, position: int) -> tuple[bytes, int]:
    """What has its length before it, and where it ends."""
    size, start = _number(block, position)
    if start + size > len(block):
        raise DamagedError("its tags end before they should")
    return block[start : start + size], start + size
