"""Texts in Ogg files, of Vorbis and of Opus: the second packet. Files are cut into pages, which are put together here."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import BinaryIO, NamedTuple

from sao_onnx.audio.tags import vorbis_comments
from sao_onnx.audio.tags.texts import LIMIT, DamagedError

MAGIC = b"OggS"

_HEADER = struct.Struct("<4sBBqIIIB")
_CONTINUED, _FIRST = 1, 2
_NO_END = -1
"""The position of a page in which no packet ends."""

_VORBIS, _OPUS = b"\x03vorbis", b"OpusTags"
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
"""Every byte with its bits in reverse order."""


class _Page(NamedTuple):
    """A page.

    Attributes:
        flags: Whether it continues a packet, is the first or the last one.
        position: In the audio, where its last packet ends.
        serial: Of the stream that it belongs to.
        lacing: Sizes of the pieces of its packets; one below 255 ends a packet.
        body: The pieces.
    """

    flags: int
    position: int
    serial: int
    lacing: bytes
    body: bytes


def with_texts(data: bytes, texts: Mapping[str, str]) -> bytes:
    """An Ogg file with other texts, whose bytes do not depend on the time: libsndfile draws the stream's number by chance.

    Args:
        data: The file as libsndfile wrote it, of Vorbis or Opus.
        texts: By the keys of `NAMES`.
    """
    pages = list(_pages(data))
    comments = next(_packets(pages[1:]))
    magic = _VORBIS if comments.startswith(_VORBIS) else _OPUS
    block = vorbis_comments.with_texts(comments[len(magic) :], texts)
    # Vorbis has a bit behind it, and a third header. The audio begins on a page of its own.
    count = 1 + (magic == _VORBIS)
    packets = [magic + block + (b"\1" if magic == _VORBIS else b"")]
    headers, ended = 0, 0
    while ended < count:
        headers += 1
        ended += sum(size < 255 for size in pages[headers].lacing)
    packets += [packet for packet, _ in zip(_packets(pages[1 : headers + 1]), range(count), strict=False)][1:]
    written = [pages[0], *_paged(packets), *pages[headers + 1 :]]
    # One number for files of the same content, another one for every other content, because files may be joined.
    serial = 0
    for page in written:
        serial = zlib.crc32(page.body, serial)
    return b"".join(_bytes(page, serial, number) for number, page in enumerate(written))


def read(stream: BinaryIO) -> dict[str, str]:
    """The texts of an Ogg file, from its beginning.

    Raises:
        DamagedError: They are too long, or cut off.
    """
    stream.seek(0)
    pages = _pages(stream.read(LIMIT))
    first = next(pages, None)
    comments = None if first is None else next(_packets(page for page in pages if page.serial == first.serial), None)
    if comments is None:
        raise DamagedError("its tags end before they should")
    for magic in (_VORBIS, _OPUS):
        if comments.startswith(magic):
            return vorbis_comments.read(comments[len(magic) :])
    return {}


def checksum(data: bytes) -> int:
    """The checksum of a page: that of zlib, but not inverted, and with the bits of every byte and of the sum reversed."""
    mirrored = zlib.crc32(data.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(mirrored.to_bytes(4, "little").translate(_REVERSED), "big")


def _pages(data: bytes) -> Iterator[_Page]:
    """The pages at the beginning of some bytes, to the first one that is cut off or is none."""
    position = 0
    while position + _HEADER.size <= len(data):
        magic, version, flags, granule, serial, _, _, pieces = _HEADER.unpack_from(data, position)
        start = position + _HEADER.size + pieces
        lacing = data[position + _HEADER.size : start]
        position = start + sum(lacing)
        if magic != MAGIC or version != 0 or position > len(data):
            return
        yield _Page(flags, granule, serial, lacing, data[start:position])


def _packets(pages: Iterable[_Page]) -> Iterator[bytes]:
    """The packets in some pages that end there."""
    pieces: list[bytes] = []
    for page in pages:
        start = 0
        for size in page.lacing:
            pieces.append(page.body[start : start + size])
            start += size
            if size < 255:
                yield b"".join(pieces)
                pieces = []


def _paged(packets: Iterable[bytes]) -> Iterator[_Page]:
    """Packets as pages of their own."""
    body = b"".join(packets)
    lacing = b"".join(b"\xff" * (len(packet) // 255) + bytes([len(packet) % 255]) for packet in packets)
    flags = start = 0
    for first in range(0, len(lacing), 255):
        piece = lacing[first : first + 255]
        end = start + sum(piece)
        yield _Page(flags, 0 if min(piece) < 255 else _NO_END, 0, piece, body[start:end])
        flags, start = _CONTINUED if piece[-1] == 255 else 0, end


def _bytes(page: _Page, serial: int, number: int) -> bytes:
    def head(sum: int) -> bytes:
        return _HEADER.pack(MAGIC, 0, page.flags, page.position, serial, number, sum, len(page.lacing)) + page.lacing

    return head(checksum(head(0) + page.body)) + page.body
