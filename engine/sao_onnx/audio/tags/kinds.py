"""Texts into and out of a file of whatever kind: its first bytes tell."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import BinaryIO, NamedTuple

from sao_onnx.audio.tags import flac, id3, ogg, riff
from sao_onnx.audio.tags.texts import LONGEST


class _Kind(NamedTuple):
    with_texts: Callable[[bytes, Mapping[str, str]], bytes]
    read: Callable[[BinaryIO], dict[str, str]]


_KINDS = {
    riff.MAGIC: _Kind(riff.with_texts, riff.read),
    flac.MAGIC: _Kind(flac.with_texts, flac.read),
    ogg.MAGIC: _Kind(ogg.with_texts, ogg.read),
}
_MP3 = _Kind(id3.with_texts, id3.read)


def with_texts(data: bytes, texts: Mapping[str, str]) -> bytes:
    """A file with texts. Its sound is not changed.

    Args:
        data: The file as libsndfile wrote it.
        texts: By the keys of `NAMES`. Empty ones are left out. What no format holds, a zero or half a character, is replaced.

    Raises:
        ValueError: The texts are longer than `LONGEST`.
    """
    held = {name: text.replace("\0", " ").encode("utf-8", "replace").decode() for name, text in texts.items() if text}
    size = sum(len(text.encode()) for text in held.values())
    if size > LONGEST:
        raise ValueError(f"its texts have {size:,} bytes, expected at most {LONGEST:,}")
    return _KINDS.get(data[:4], _MP3).with_texts(data, held)


def read(stream: BinaryIO) -> dict[str, str] | None:
    """The texts of a file, by the keys of `NAMES`; None where it is of no kind that carries any.

    Raises:
        DamagedError: They are too long, or cut off.
    """
    start = stream.read(12)
    # An MP3 file without tag begins with eleven ones.
    mp3 = start.startswith(id3.MAGIC) or (start[:1] == b"\xff" and start[1:2] >= b"\xe0")
    kind = _KINDS.get(start[:4], _MP3 if mp3 else None)
    if kind is None or (start.startswith(riff.MAGIC) and start[8:] != b"WAVE"):
        return None
    return kind.read(stream)
