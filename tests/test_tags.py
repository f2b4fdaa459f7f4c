"""The texts in audio files: long ones and those of every language, of former releases, and of whoever means harm."""

from __future__ import annotations

import io
import itertools
import json
import os
import random
import struct
import sys
import time

import numpy as np
import pytest
import soundfile

from sao_onnx.audio.files import encode_audio, file_digest, read_audio, read_tags
from sao_onnx.audio.formats import AUDIO_FORMATS
from sao_onnx.audio.tags import kinds, ogg, riff
from sao_onnx.audio.tags.texts import LIMIT, LONGEST, NAMES
from sao_onnx.errors import AudioFileError

posix = pytest.mark.skipif(sys.platform == "win32", reason="no FIFOs and no /dev")
every_format = pytest.mark.parametrize("suffix", AUDIO_FORMATS)


def _tone(frames=4410):
    return np.stack([np.sin(np.arange(frames) / 20), np.cos(np.arange(frames) / 30)]).astype(np.float32) * 0.5


@every_format
@pytest.mark.parametrize("length", [1, 254, 255, 256, 1744, 65_024, 65_025, 130_050, 1_900_000])
def test_texts_of_every_length(tmp_path, suffix, length):
    """libsndfile, like other programs, finds the same sound and the title."""
    path = tmp_path / f"a{suffix}"
    texts = {"title": "“Rain”, 大雨", "software": "sao", "comment": "雨é𝄞\n"[: length % 4] + "x" * (length - length % 4)}
    path.write_bytes(encode_audio(_tone(), 44100, suffix, tags=texts))
    assert read_tags(path) == texts
    bare = soundfile.read(io.BytesIO(encode_audio(_tone(), 44100, suffix)))[0]
    with soundfile.SoundFile(path) as file:
        assert file.title == texts["title"]
        np.testing.assert_array_equal(file.read(), bare)


@every_format
def test_every_name(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    texts = {name: f"the {name}" for name in NAMES}
    path.write_bytes(encode_audio(_tone(), 44100, suffix, tags=texts))
    assert read_tags(path) == texts


@every_format
def test_empty_texts_are_left_out(tmp_path, suffix):
    """An empty prompt is a prompt."""
    path = tmp_path / f"a{suffix}"
    path.write_bytes(encode_audio(_tone(), 44100, suffix, tags={"title": "", "comment": "c"}))
    assert read_tags(path) == {"comment": "c"}
    assert encode_audio(_tone(), 44100, suffix, tags={"title": ""}) == encode_audio(_tone(), 44100, suffix)


@every_format
def test_what_no_format_can_hold_is_replaced(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(encode_audio(_tone(), 44100, suffix, tags={"title": "a\0b\ud800c", "comment": "c"}))
    assert read_tags(path) == {"title": "a b?c", "comment": "c"}


@every_format
def test_texts_that_are_too_long_are_refused(suffix):
    with pytest.raises(
        AudioFileError, match=r"cannot be written .*: its texts have 2,097,153 bytes, expected at most 2,097,152"
    ):
        encode_audio(_tone(), 44100, suffix, tags={"comment": "c" * (LONGEST + 1)})
    encode_audio(_tone(), 44100, suffix, tags={"comment": "c" * LONGEST})


def test_the_same_clip_is_the_same_file():
    """At another time, too, which libsndfile writes into floating-point WAV and makes the number of an Ogg stream of."""

    def encode():
        formats = [*((suffix, None) for suffix in AUDIO_FORMATS), (".wav", 24), (".wav", 32)]
        return [encode_audio(_tone(), 44100, suffix, bits=bits, tags={"title": "a"}) for suffix, bits in formats]

    one = encode()
    time.sleep(1.1)
    assert encode() == one


# Ogg, against what RFC 3533 says.


def _checksum(data):
    sum = 0
    for byte in data:
        sum ^= byte << 24
        for _ in range(8):
            sum = (sum << 1 ^ (0x04C11DB7 if sum >> 31 else 0)) & 0xFFFFFFFF
    return sum


def _pages(data):
    position = 0
    while position < len(data):
        header = struct.unpack_from("<4sBBqIIIB", data, position)
        lacing = data[position + 27 : position + 27 + header[-1]]
        end = position + 27 + len(lacing) + sum(lacing)
        yield header, lacing, data[position:end]
        position = end


@pytest.mark.parametrize("suffix", [".ogg", ".opus"])
@pytest.mark.parametrize("length", [10, 255 * 255 - 40, 200_000])
def test_pages(suffix, length):
    data = encode_audio(_tone(20_000), 44100, suffix, tags={"comment": "c" * length})
    found = list(_pages(data))
    assert {header[0] for header, _, _ in found} == {b"OggS"}
    assert [header[5] for header, _, _ in found] == list(range(len(found)))
    assert len({header[4] for header, _, _ in found}) == 1
    assert [header[2] & 2 for header, _, _ in found] == [2] + [0] * (len(found) - 1)
    assert [header[2] & 4 for header, _, _ in found] == [0] * (len(found) - 1) + [4]
    for (header, lacing, page), (_, before, _) in zip(found[1:], found, strict=False):
        assert header[6] == _checksum(page[:22] + b"\0\0\0\0" + page[26:])
        assert bool(header[2] & 1) == (before[-1] == 255)
        assert (header[3] == -1) == (set(lacing) == {255})
    other = encode_audio(_tone(20_000), 44100, suffix, tags={"comment": "d" * length})
    # Files may be joined, so another clip is another stream.
    assert next(_pages(other))[0][4] != found[0][0][4]


def test_the_checksum_is_that_of_ogg():
    for data in (b"", b"\0", b"OggS" * 100, bytes(range(256))):
        assert ogg.checksum(data) == _checksum(data)


# What former releases wrote by means of libsndfile.


@every_format
@pytest.mark.parametrize("length", [100, 1700, 5000])
def test_texts_that_libsndfile_wrote(tmp_path, suffix, length):
    """The longer ones in WAV, too, which it does not give back itself."""
    path = tmp_path / f"a{suffix}"
    format = AUDIO_FORMATS[suffix]
    title = "?Rain?" if suffix == ".mp3" else "“Rain”"  # As former releases wrote it.
    rate = format.rate or 44100
    with soundfile.SoundFile(path, "w", rate, 2, next(iter(format.codecs.values())), format=format.container) as file:
        file.title, file.software, file.comment = title, "sao", "c" * length
        file.write(_tone().T)
    found = read_tags(path)
    assert found["comment"] == "c" * length
    assert found["title"] == title


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize(
    ("codec", "number", "end"), [("latin-1", 0, b"\0"), ("utf-16", 1, b"\0\0"), ("utf-16-be", 2, b"\0\0"), ("utf-8", 3, b"\0")]
)
def test_tags_of_mp3_in_every_encoding(tmp_path, version, codec, number, end):
    """By other programs, which may also have comments with names, pictures and padding."""

    def frame(id, content, flags=0):
        size = len(content)
        stated = bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0)) if version == 4 else size.to_bytes(4, "big")
        return id + stated + bytes([0, flags]) + content

    def comment(name, text):
        return frame(b"COMM", bytes([number]) + b"eng" + name.encode(codec) + end + text.encode(codec) + end)

    frames = frame(b"APIC", b"\xff" * 300) + comment("named", "no") + frame(b"TIT2", b"packed", 8)
    frames += comment("", "Räin") + frame(b"TIT2", bytes([number]) + "Ä".encode(codec)) + frame(b"TPE1", b"") + b"\0" * 100
    size = bytes(len(frames) >> shift & 0x7F for shift in (21, 14, 7, 0))
    (tmp_path / "a.mp3").write_bytes(b"ID3" + bytes([version, 0, 0]) + size + frames + encode_audio(_tone(), 44100, ".mp3"))
    assert read_tags(tmp_path / "a.mp3") == {"title": "Ä", "comment": "Räin"}


# What means harm.

TEXTS = {"title": "Rain", "software": "sao", "comment": json.dumps({"a": "b" * 300})}


def _read(path):
    """The texts, or None for an error of ours; whatever else happens fails the test."""
    try:
        return read_tags(path)
    except AudioFileError:
        return None


@every_format
def test_files_that_are_cut_off(tmp_path, suffix):
    data = encode_audio(_tone(100), 44100, suffix, tags=TEXTS)
    path = tmp_path / "a"
    for length in range(min(len(data), 700)):
        path.write_bytes(data[:length])
        _read(path)
    path.write_bytes(data)
    assert _read(path) == TEXTS


@every_format
def test_files_with_wrong_bytes(tmp_path, suffix):
    data = encode_audio(_tone(100), 44100, suffix, tags=TEXTS)
    path, drawn = tmp_path / "a", random.Random(0)
    for _ in range(1500):
        damaged = bytearray(data)
        for _ in range(drawn.randint(1, 4)):
            damaged[drawn.randrange(min(len(data), 500))] = drawn.choice([0, 1, 0x7F, 0x80, 0xFF, drawn.randrange(256)])
        path.write_bytes(damaged)
        _read(path)


def _wav(*chunks):
    return b"RIFF\xff\xff\xff\xffWAVE" + b"".join(id + struct.pack("<I", size) + content for id, size, content in chunks)


def _vorbis(count, line):
    return struct.pack("<I", 0) + struct.pack("<I", count) + line


LARGE = [
    (_wav((b"LIST", 2**32 - 1, b"INFOICMT")), "4,294,967,291 bytes, expected at most"),
    (_wav((b"LIST", 1000, b"INFOICMT")), "end before they should"),
    (_wav((b"LIST", 16, b"INFOICMT\xff\xff\xff\xff")), "end before they should"),
    (_wav((b"LIST", 2, b"")), {}),
    (_wav((b"LIST", 4, b"INFO"), (b"data", 2**32 - 1, b"")), {}),
    (_wav((b"LIST", 16, b"INFOICMT\xff\xff\xff\xffabcd")), {"comment": "abcd"}),
    (_wav(*((b"junk", 0, b""),) * 100_000), {}),
    (b"RIFF\x04\0\0\0AVI ", "expected one of .wav, .flac, .ogg, .opus, .mp3"),
    (b"fLaC\x84\xff\xff\xff", "16,777,215 bytes, expected at most"),
    (b"fLaC\x84\0\xff\xff", "end before they should"),
    (b"fLaC" + b"\x01\0\0\0" * 100_000, {}),
    (b"fLaC\x84\0\0\x0c" + _vorbis(2**32 - 1, b"\0\0\0\0"), "end before they should"),
    (b"fLaC\x84\0\0\x0c" + _vorbis(1, b"\xff\xff\xff\xff"), "end before they should"),
    (b"fLaC\x84\0\0\x04\xff\xff\xff\xff", "end before they should"),
    (b"ID3\x04\0\0\x7f\x7f\x7f\x7f", "268,435,455 bytes, expected at most"),
    (b"ID3\x04\0\0\0\0\x7f\x7f", "end before they should"),
    (b"ID3\x04", "end before they should"),
    (b"ID3\x02\0\0\0\0\0\0", {}),
    (b"ID3\x04\0\0\0\0\0\x0eCOMM\x7f\x7f\x7f\x7f\0\0\x03eng", {}),
    (b"ID3\x04\0\0\0\0\0\x0aCOMM\0\0\0\0\0\0", {}),
    (b"OggS", "end before they should"),
    (b"OggS\0\2" + bytes(20) + b"\1\1x" + b"OggS\0\0" + bytes(20) + b"\1\1x", {}),
    ((b"OggS\0\2" + bytes(20) + b"\0") * 200_000, "end before they should"),
    ((b"OggS\0\2" + bytes(20) + b"\xff" + b"\xff" * 255 + bytes(65025)) * 80, "end before they should"),
]
"""Files, and what they carry or what is said of them."""


@pytest.mark.parametrize(("content", "expected"), LARGE, ids=range(len(LARGE)))
def test_sizes_are_held_against_limits(tmp_path, content, expected):
    (tmp_path / "a.wav").write_bytes(content)
    if isinstance(expected, str):
        with pytest.raises(AudioFileError, match=expected):
            read_tags(tmp_path / "a.wav")
    else:
        assert read_tags(tmp_path / "a.wav") == expected


def test_no_more_is_read_than_the_limit(tmp_path):
    """Of a file of any size, and of any part of it."""

    class Counted(io.BytesIO):
        most = 0

        def read(self, size=-1, /):
            assert 0 <= size <= LIMIT
            return super().read(size)

    for suffix in AUDIO_FORMATS:
        assert kinds.read(Counted(encode_audio(_tone(100), 44100, suffix, tags=TEXTS))) == TEXTS


@posix
@pytest.mark.parametrize("read", [read_tags, read_audio, file_digest])
@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "missing", "nul"])
def test_what_is_no_ordinary_file_is_refused_at_once(tmp_path, kind, read):
    path = {"device": "/dev/zero", "nul": "a\0b"}.get(kind, tmp_path / "a.wav")
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    with pytest.raises(AudioFileError, match="cannot be read"):
        read(path)


def test_chunks_of_odd_sizes(tmp_path):
    """A chunk of RIFF begins at an even byte."""
    for lengths in itertools.product((1, 2), repeat=2):
        texts = dict(zip(("title", "comment"), ("x" * length for length in lengths), strict=True))
        data = encode_audio(_tone(1), 44100, ".wav", tags=texts)
        assert struct.unpack_from("<I", data, 4)[0] == len(data) - 8
        assert riff.read(io.BytesIO(data)) == texts
        assert soundfile.read(io.BytesIO(data))[0].shape == (1, 2)
