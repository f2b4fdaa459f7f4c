"""Lists of requests in text, CSV and JSON Lines: what is read, and whose mistake is whose."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from sao_onnx.batch.lists import LARGEST_LIST, LONGEST_LINE, Line, open_list, read_lines
from sao_onnx.errors import FileError, RequestError
from tests.processes import started


@pytest.fixture
def listed(tmp_path):
    """The lines of a file with these bytes."""

    def listed(content, format):
        path = tmp_path / "list"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        lines, live = open_list(str(path), format)
        assert not live
        return list(lines)

    return listed


def test_text(listed):
    assert listed("rain\n\n# a comment\n  soft wind  \n", "text") == [Line(1, 1, "rain"), Line(4, 2, "soft wind")]
    assert listed("rain\r\n\r\nwind", "text") == [Line(1, 1, "rain"), Line(3, 2, "wind")]
    assert listed("rain\rwind\r", "text") == [Line(1, 1, "rain"), Line(2, 2, "wind")]
    assert listed("\ufeffrain\n", "text") == [Line(1, 1, "rain")]


def test_csv(listed):
    lines = listed('prompt,seconds,negative\n"rain, soft",2,\n\nwind,,hiss\n,1,\na,b,c,d\nkick\n', "csv")
    assert lines[0] == Line(2, 1, "rain, soft", {"seconds": "2", "negative": ""})
    assert lines[1] == Line(4, 2, "wind", {"seconds": "", "negative": "hiss"})
    assert (lines[2].prompt, lines[2].problem) == ("", "")  # Without words; whether it may be is decided with its options.
    assert "more values than the 3 columns" in lines[3].problem
    assert lines[4] == Line(7, 5, "kick")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_ends_of_lines_in_csv(listed, end):
    text = end.join(["\ufeffprompt, seconds", '"soft', 'rain", 2', 'he said ""hi"", 3', ""])
    first, second = listed(text, "csv")
    assert (first.number, first.prompt, first.options) == (2, f"soft{end}rain", {"seconds": "2"})
    assert (second.number, second.options) == (4, {"seconds": "3"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("text,seconds\nrain,1\n", "the columns are text, seconds; one of them must be prompt"),
        ("", "the columns are missing"),
        ("\n\n", "the columns are missing"),
        ("prompt;seconds\nrain;1\n", "separate them by commas"),
        ("prompt\tseconds\nrain\t1\n", "separate them by commas"),
        ("prompt,seed,seed\nrain,1,2\n", "the column seed is there twice"),
        (b"prompt,\xff\nrain,1\n", "the columns cannot be read: it is not UTF-8 text"),
    ],
)
def test_columns(listed, text, message):
    with pytest.raises(RequestError, match=message):
        listed(text, "csv")


def test_values_of_csv_that_cannot_be_read(listed):
    lines = listed("prompt,seconds\n" + "x" * 131_073 + ',1\nrain,1\n"wind,2\nkick,3\n', "csv")
    assert [(line.number, line.prompt) for line in lines] == [(2, ""), (3, "rain"), (4, "")]
    assert "longer than 131,072 characters" in lines[0].problem
    assert lines[2].problem == "a quote is never closed"


def test_json_lines(listed):
    lines = listed('{"prompt": "rain", "seconds": 2, "mono": true}\n\n{"prompt": 3}\n[]\nrain\n{"prompt": " "}\r\n', "jsonl")
    assert lines[0] == Line(1, 1, "rain", {"seconds": 2, "mono": True}, from_json=True)
    assert [(line.number, line.index) for line in lines] == [(1, 1), (3, 2), (4, 3), (5, 4), (6, 5)]
    assert all(line.problem for line in lines[1:4])
    assert (lines[4].prompt, lines[4].problem) == (" ", "")


@pytest.mark.parametrize("end", ["\u2028", "\u2029", "\u0085", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e"])
def test_only_ends_of_lines_end_lines(listed, end):
    assert [line.prompt for line in listed(f"soft{end}rain\nwind\n", "text")] == [f"soft{end}rain", "wind"]
    assert [line.prompt for line in listed(f"prompt\nsoft{end}rain\nwind\n", "csv")] == [f"soft{end}rain", "wind"]
    if end >= " ":  # JSON has no others within a text.
        assert [line.prompt for line in listed(f'{{"prompt": "soft{end}rain"}}\n{{"prompt": "wind"}}\n', "jsonl")] == [
            f"soft{end}rain",
            "wind",
        ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"prompt": "kick \\ud83e drum"}', "half a character"),
        ('{"prompt": "kick", "seconds": NaN}', "NaN is not a number"),
        ('{"prompt": "kick", "seconds": -Infinity}', "-Infinity is not a number"),
        ('{"prompt": "kick", "seconds": 1e400}', "too large"),
        ('{"prompt": "kick", "seed": ' + "1" * 5000 + "}", "not JSON"),
        ("[" * 100_000, "nested"),
        ('{"a":' * 100_000, "nested"),
        ('{"prompt": "ki', "not JSON"),
        ("{} {}", "not JSON"),
        ("null", "expected an object"),
        (b'{"prompt": "caf\xe9"}', "it is not UTF-8 text: byte 0xe9 at character 16"),
        ("x" * (LONGEST_LINE + 1), "longer than 1,000,000 characters"),
        ("x" * (3 * LONGEST_LINE), "longer than 1,000,000 characters"),
    ],
)
def test_a_bad_line_is_one_line(listed, row, message):
    row = row if isinstance(row, bytes) else row.encode()
    lines = listed(b'{"prompt": "a"}\n' + row + b'\n{"prompt": "b"}\n', "jsonl")
    assert [(line.number, line.prompt) for line in lines] == [(1, "a"), (2, ""), (3, "b")]
    assert message in lines[1].problem


@pytest.mark.parametrize("format", ["text", "csv"])
def test_a_bad_line_of_text_is_one_line(listed, format):
    bad = [b"caf\xe9", b"\xed\xa0\x80", b"x" * (2 * LONGEST_LINE)]
    lines = listed(b"\n".join([b"prompt", *bad, b"wind"]), format)
    assert [(line.number, bool(line.problem)) for line in lines[-4:]] == [(2, True), (3, True), (4, True), (5, False)]


def test_the_longest_line(listed):
    for end in ("", "\n", "\r\n"):
        assert [len(line.prompt) for line in listed("x" * LONGEST_LINE + end, "text")] == [LONGEST_LINE]


def test_other_encodings(listed):
    for encoding in ("utf-16-le", "utf-16-be"):
        with pytest.raises(RequestError, match="UTF-16 text, expected UTF-8"):
            listed("\ufeffprompt\nrain\n".encode(encoding), "csv")


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/full", "/dev/null", "."])
def test_what_is_no_file(device):
    if not Path(device).exists():
        pytest.skip("there is no such device")
    with pytest.raises(FileError, match=r"is not an ordinary file.*can be piped in"):
        open_list(device, "text")


def test_a_list_that_is_too_large(tmp_path):
    with (tmp_path / "list.txt").open("wb") as stream:
        stream.truncate(LARGEST_LIST + 1)
    with pytest.raises(FileError, match=r"is larger than expected.*can be piped in"):
        open_list(str(tmp_path / "list.txt"), "text")


@pytest.mark.parametrize("name", ["nothing.txt", "a\0b.txt", "x" * 5000])
def test_what_is_not_there(name):
    with pytest.raises(FileError, match="cannot be read"):
        open_list(name, "text")


@pytest.mark.skipif(sys.platform == "win32", reason="there are no FIFOs")
def test_a_fifo_is_read_as_it_is_written(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    program = "import sys; stream = open('fifo', 'w'); stream.write('rain\\n'); stream.flush(); sys.stdin.read()"
    with started([sys.executable, "-c", program], cwd=tmp_path, stdin=-1) as process:
        lines, live = open_list(str(tmp_path / "fifo"), "text")
        assert live
        assert next(lines).prompt == "rain"
        assert process.poll() is None
        assert process.stdin
        process.stdin.close()
        assert list(lines) == []


def test_a_line_without_end(tmp_path):
    with (tmp_path / "zeros").open("wb") as stream:
        stream.truncate(1_000_000_000)
    with (tmp_path / "zeros").open(encoding="utf-8") as text, pytest.raises(RequestError, match="line 1 has no end"):
        list(read_lines(text, "text"))
