import os
import sys
from pathlib import Path

import pytest

from sao_onnx.errors import AudioFileError, FileError
from sao_onnx.reading import parse_json, read_small

posix = pytest.mark.skipif(sys.platform == "win32", reason="no FIFOs and no /dev")


def test_a_file_is_read_up_to_its_limit(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    assert read_small(path, 5) == b"12345"
    with pytest.raises(AudioFileError, match="more than 4 bytes"):
        read_small(path, 4, error=AudioFileError)


@posix
@pytest.mark.parametrize("kind", ["fifo", "device", "link to a device", "folder", "nul"])
def test_what_is_no_ordinary_file_is_refused_at_once(kind, tmp_path):
    path = tmp_path / "a"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path = Path("/dev/zero")
    elif kind == "link to a device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    else:
        path = Path("a\0b")
    with pytest.raises(FileError):
        read_small(path, 100)


@pytest.mark.parametrize("name", ["missing", "file/below"])
def test_a_file_that_is_not_there_is_no_other_failure(name, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FileNotFoundError) as caught:
        read_small(tmp_path / name, 100)
    assert not isinstance(caught.value, FileError)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "[" * 60 + "]" * 60,
        "NaN",
        "-Infinity",
        "[1e999]",
        "9" * 5_000,
        r'{"a": "\ud800"}',
        r'{"\udfff": 1}',
        "",
        "{",
        '"\ud800"',
    ],
    ids=range(11),
)
def test_json_that_cannot_be_used_is_a_value_error(text):
    with pytest.raises(ValueError, match=r"."):
        parse_json(text)


def test_a_number_of_thousands_of_digits_is_told_in_our_words():
    with pytest.raises(ValueError, match="a number has 5000 digits, expected at most 1000"):
        parse_json("9" * 5_000)


def test_json_is_read():
    assert parse_json(r'{"a": [1, 2.5, "é\ud83d\ude00 \u2028", null, true]}') == {"a": [1, 2.5, "é😀 \u2028", None, True]}
