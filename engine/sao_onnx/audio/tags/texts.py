"""The names of texts, and how much of them is read and written."""

from __future__ import annotations

from typing import NamedTuple

LONGEST = 2 * 2**20
"""Bytes that all texts of a file may have together where they are written. The longest request takes fewer."""

LIMIT = 2 * LONGEST
"""Bytes that are read. What a file says to be longer is refused."""


class Names(NamedTuple):
    """What a text is called in the kinds of files.

    Attributes:
        riff: In the list `INFO` of WAV files.
        vorbis: In the comments of FLAC, Vorbis and Opus.
        id3: Its frame in MP3 files.
    """

    riff: bytes
    vorbis: str
    id3: bytes


NAMES = {
    "title": Names(b"INAM", "TITLE", b"TIT2"),
    "artist": Names(b"IART", "ARTIST", b"TPE1"),
    "album": Names(b"IPRD", "ALBUM", b"TALB"),
    "date": Names(b"ICRD", "DATE", b"TDRC"),
    "genre": Names(b"IGNR", "GENRE", b"TCON"),
    "copyright": Names(b"ICOP", "COPYRIGHT", b"TCOP"),
    "tracknumber": Names(b"ITRK", "TRACKNUMBER", b"TRCK"),
    "software": Names(b"ISFT", "ENCODER", b"TSSE"),
    "comment": Names(b"ICMT", "COMMENT", b"COMM"),
}
"""By the name that libsndfile gives them."""


class DamagedError(ValueError):
    """The texts of a file cannot be read."""


def within(size: int) -> int:
    """A size that a file states, if it is small enough to be read.

    Raises:
        DamagedError: It is not.
    """
    if size > LIMIT:
        raise DamagedError(f"its tags have {size:,} bytes, expected at most {LIMIT:,}")
    return size


def exactly(data: bytes, size: int) -> bytes:
    """Bytes that were read, if they are as many as were asked for.

    Raises:
        DamagedError: They are fewer.
    """
    if len(data) < size:
        raise DamagedError("its tags end before they should")
    return data
