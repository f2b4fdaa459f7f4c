"""Variations and batches: names, lists, interruptions, bad lines."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import soundfile

from sao_onnx.cli.names import file_name, for_several, slug
from sao_onnx.cli.request_file import Line, read_lines
from sao_onnx.errors import RequestError
from sao_onnx.provenance import read_provenance
from tests.processes import COMMAND, interrupt, run, started, wait_until


@pytest.fixture
def call(miniature, tmp_path):
    def call(command, *arguments, text=None, **options):
        return run([COMMAND, command, *arguments, "--model", miniature], cwd=tmp_path, input=text, **options)

    return call


def test_slugs():
    assert slug("Tech house, 128 BPM!") == "tech-house-128-bpm"
    assert slug("../../etc/passwd") == "etc-passwd"
    assert slug("大雨") == "大雨"
    assert len(slug("rain " * 50)) <= 60
    assert not slug("a" * 59 + " b").endswith("-")


def test_names():
    def name(template):
        return file_name(template, prompt="Soft rain", seed=5, index=2)

    assert name("{index:03}-{prompt}.wav") == Path("002-soft-rain.wav")
    assert name("out/{prompt}-{seed}.flac") == Path("out/soft-rain-5.flac")
    assert for_several("a.wav") == "a-{seed}.wav"
    assert for_several("x/a.wav") == str(Path("x") / "a-{seed}.wav")
    assert for_several("{index}.wav") == "{index}.wav"
    for template in ("{sead}.wav", "{0}.wav", "{.wav", "{index:q}.wav"):
        with pytest.raises(RequestError, match="the name"):
            name(template)


def test_text():
    assert read_lines("rain\n\n# a comment\n  soft wind  \n", "text") == [Line(1, "rain"), Line(4, "soft wind")]


def test_csv():
    lines = read_lines('prompt,seconds,negative\n"rain, soft",2,\nwind,,hiss\n,1,\na,b,c,d\n', "csv")
    assert lines[0] == Line(2, "rain, soft", {"seconds": "2", "negative": ""})
    assert lines[1] == Line(3, "wind", {"seconds": "", "negative": "hiss"})
    assert lines[2].problem == "the prompt is missing"
    assert "more values than the 3 columns" in lines[3].problem
    for text in ("text,seconds\nrain,1\n", ""):
        with pytest.raises(RequestError, match="one of them must be prompt"):
            read_lines(text, "csv")


def test_json_lines():
    lines = read_lines('{"prompt": "rain", "seconds": 2, "mono": true}\n\n{"prompt": 3}\n[]\nrain\n', "jsonl")
    assert lines[0] == Line(1, "rain", {"seconds": 2, "mono": True})
    assert [line.number for line in lines] == [1, 3, 4, 5]
    assert all(line.problem for line in lines[1:])


def test_variations_are_reproducible_alone(call, tmp_path):
    done = call("gen", "rain", "--count", 3, "--seed", 7, "--seconds", 0.3)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["rain-7.wav", "rain-8.wav", "rain-9.wav"]
    assert call("gen", "rain", "--seed", 8, "--seconds", 0.3, "-o", "alone.wav").returncode == 0
    assert (tmp_path / "alone.wav").read_bytes() == (tmp_path / "rain-8.wav").read_bytes()
    named = call("gen", "rain", "-n", 2, "--seed", 1, "--seconds", 0.1, "-o", "take {index}.flac", "--json")
    assert [json.loads(line)["file"] for line in named.stdout.splitlines()] == ["take 1.flac", "take 2.flac"]
    assert call("gen", "rain", "-n", 2, "--seed", 1, "--seconds", 0.1, "-o", "b.wav").stdout.split() == ["b-1.wav", "b-2.wav"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--count", 0], "--count"),
        (["--count", 2, "-o", "-"], "takes one clip"),
        (["--count", 2, "--seed", 2**32 - 1], "and count 2"),
        (["-o", "{x}.wav"], "has the field 'x'; known: prompt, seed, index"),
    ],
)
def test_bad_variations(call, tmp_path, arguments, message):
    done = call("gen", "rain", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert os.listdir(tmp_path) == []


def test_nothing_is_begun_that_would_replace_a_file(call, tmp_path):
    (tmp_path / "rain-9.wav").write_bytes(b"mine")
    assert call("gen", "rain", "--count", 3, "--seed", 7).returncode == 1
    assert os.listdir(tmp_path) == ["rain-9.wav"]


def test_a_batch_goes_on_after_bad_lines(call, tmp_path):
    rows = [
        {"prompt": "soft rain", "seconds": 0.2, "seed": 5},
        {"prompt": "kick", "seconds": 99},
        {"prompt": "wind", "second": 1},
        {"prompt": "bell", "seconds": 0.1, "output": "my bell.flac", "steps": 2},
        {"prompt": "tone", "output": "tone.xyz"},
        {"prompt": "again", "output": "my bell.flac"},
    ]
    text = "\n".join(map(json.dumps, rows)) + "\nnot json\n"
    (tmp_path / "list.jsonl").write_text(text)
    done = call("batch", "list.jsonl", "-o", "clips")
    assert done.returncode == 1
    assert done.stdout.split("\n")[:-1] == [str(Path("clips") / "001-soft-rain.wav"), str(Path("clips") / "my bell.flac")]
    assert "2 made, 0 there before, 5 failed" in done.stderr
    for message in (
        "line 2: seconds is 99, expected more than 0 and at most 3.994",
        "line 3: there is no option 'second'; did you mean 'seconds'",
        "line 5: ",
        "line 6: clips/my bell.flac is the file of another line",
        "line 7: not JSON",
    ):
        assert message in done.stderr
    assert sorted(os.listdir(tmp_path / "clips")) == ["001-soft-rain.wav", "my bell.flac"]
    found = read_provenance(tmp_path / "clips" / "001-soft-rain.wav")
    assert (found.prompt, found.seed, found.options["seconds"]) == ("soft rain", 5, 0.2)


def test_a_batch_from_stdin_in_jobs(call, tmp_path):
    text = "prompt,seconds\n" + "".join(f"kick {i},0.1\n" for i in range(5))
    done = call("batch", "-", "--format", "csv", "--jobs", 2, "--seed", 10, "--name", "{seed}.ogg", "-q", text=text)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split()) == [f"{seed}.ogg" for seed in range(10, 15)]
    assert done.stderr == ""
    assert read_provenance(tmp_path / "12.ogg").prompt == "kick 2"


def test_a_batch_that_was_interrupted_goes_on(miniature, call, tmp_path):
    def write(steps):
        rows = [{"prompt": f"rain {i}", "seconds": 0.3, "steps": steps if i == 2 else 2} for i in range(6)]
        (tmp_path / "list.jsonl").write_text("\n".join(map(json.dumps, rows)))

    write(1_000_000)  # Hours: it is interrupted in the third.
    command = [COMMAND, "batch", "list.jsonl", "--model", miniature, "--seed", "3"]
    with started(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        wait_until(lambda: len(list(tmp_path.glob("*.wav"))) == 2, process)
        assert interrupt(process)[0] == 130
    before = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in tmp_path.glob("*.wav")}
    assert sorted(os.listdir(tmp_path)) == ["001-rain-0.wav", "002-rain-1.wav", "list.jsonl"]
    write(2)
    done = call("batch", "list.jsonl", "--seed", 3)
    assert done.returncode == 0, done.stderr
    assert "4 made, 2 there before, 0 failed" in done.stderr
    after = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in tmp_path.glob("*.wav")}
    assert len(after) == 6
    assert before.items() <= after.items()
    # The same as if nothing had happened.
    assert call("gen", "rain 5", "--seed", 8, "--seconds", 0.3, "--steps", 2, "-o", "alone.wav").returncode == 0
    assert (tmp_path / "alone.wav").read_bytes() == (tmp_path / "006-rain-5.wav").read_bytes()


def test_a_loop_is_found_again(call, tmp_path):
    """Though its prompt got its tempo."""
    (tmp_path / "list.jsonl").write_text('{"prompt": "rain", "bpm": 240, "bars": 1, "steps": 1}')
    assert "1 made" in call("batch", "list.jsonl").stderr
    again = call("batch", "list.jsonl")
    assert again.returncode == 0, again.stderr
    assert "0 made, 1 there before, 0 failed" in again.stderr


def test_errors_are_told_before_the_first_clip(call, tmp_path):
    """Those of the plan as well, of whatever line."""
    rows = [
        {"prompt": "rain", "seconds": 0.1, "steps": 1},
        {"prompt": "wind", "seconds": 0.1, "steps": 1},
        {"prompt": "kick", "bpm": 120},
        {"prompt": "bell", "extend": 3},
        {"prompt": "tone", "init": "nothing.wav"},
    ]
    done = call("batch", "-", "--format", "jsonl", text="\n".join(map(json.dumps, rows)), stderr=subprocess.STDOUT)
    assert done.returncode == 1
    told = done.stdout.splitlines()
    assert [line.split(":")[0] for line in told[:3]] == ["line 3", "line 4", "line 5"]
    assert "a loop needs bpm and bars" in told[0]
    assert "extend needs initial audio" in told[1]
    assert "nothing.wav cannot be read" in told[2]
    assert told[3:] == ["001-rain.wav", "002-wind.wav", "2 made, 0 there before, 3 failed"]


def test_a_sidecar_that_is_there_is_refused_before_the_work(call, tmp_path):
    (tmp_path / "001-rain.json").write_text("mine")
    rows = [{"prompt": "rain", "steps": 1_000_000}, {"prompt": "wind", "seconds": 0.1, "steps": 1}]
    done = call("batch", "-", "--format", "jsonl", "--json", text="\n".join(map(json.dumps, rows)))
    assert done.returncode == 1
    assert "line 1: 001-rain.json exists" in done.stderr
    assert sorted(os.listdir(tmp_path)) == ["001-rain.json", "002-wind.json", "002-wind.wav"]
    assert (tmp_path / "001-rain.json").read_text() == "mine"
    assert json.loads((tmp_path / "002-wind.json").read_text())["sao-onnx"]["prompt"] == "wind"
    assert [json.loads(line)["prompt"] for line in done.stdout.splitlines()] == ["wind"]


def test_what_is_there_and_is_another_clip(call, tmp_path):
    (tmp_path / "list.txt").write_text("rain\nwind\nkick\n")
    assert call("gen", "wind", "-o", "001-rain.wav", "--seconds", 0.1).returncode == 0
    assert call("gen", "wind", "-o", "002-wind.wav", "--seconds", 0.1, "--no-metadata").returncode == 0
    (tmp_path / "003-kick.wav").write_text("notes")
    done = call("batch", "list.txt")
    assert done.returncode == 1
    assert "line 1: 001-rain.wav exists" in done.stderr
    assert "line 3: 003-kick.wav exists" in done.stderr
    assert "0 made, 1 there before, 2 failed" in done.stderr
    assert (tmp_path / "003-kick.wav").read_text() == "notes"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["none.txt"], 1, "none.txt cannot be read"),
        (["empty.txt"], 1, "empty.txt holds no requests"),
        (["latin.txt"], 1, "is not UTF-8 text"),
        (["list.txt", "--format", "xml"], 2, "known: text, csv, jsonl"),
        (["list.txt", "--format", "csv"], 2, "one of them must be prompt"),
        (["list.txt", "--name", "{seed}.wav"], 2, "needs --seed"),
        (["list.txt", "--name", "{size}.wav"], 2, "known: prompt, seed, index"),
        (["list.txt", "--jobs", 0], 2, "--jobs"),
    ],
)
def test_bad_batches(call, tmp_path, arguments, code, message):
    (tmp_path / "empty.txt").write_text("# nothing\n")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    (tmp_path / "list.txt").write_text("rain\n")
    done = call("batch", *arguments)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("*.wav"))


def test_mono_from_a_batch(call, tmp_path):
    assert call("batch", "-", "--format", "jsonl", text='{"prompt": "a", "seconds": 0.1, "mono": true}').returncode == 0
    assert soundfile.info(tmp_path / "001-a.wav").channels == 1
