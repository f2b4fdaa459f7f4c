"""Variations and batches of files: names, interruptions, bad lines, what is there before."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from sao_onnx.batch.clips import Clips
from sao_onnx.batch.folder import Folder
from sao_onnx.batch.lists import Line
from sao_onnx.batch.tasks import Files, Task
from sao_onnx.errors import OutputExistsError, RequestError
from sao_onnx.file_names import file_name, for_several
from sao_onnx.provenance import read_provenance
from sao_onnx.slug import slug
from tests.processes import COMMAND, GUARD, interrupt, run, started, wait_until


@pytest.fixture
def call(miniature, tmp_path):
    def call(command, *arguments, text=None, **options):
        return run([COMMAND, command, *arguments, "--model", miniature], cwd=tmp_path, input=text, **options)

    return call


SHORT = {"seconds": 0.1, "steps": 1}


def write_list(folder, rows):
    (folder / "list.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")


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
        {"prompt": "kick", "seconds": 9999},
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
        "line 2: seconds is 9999, expected at most 3600",
        "line 3: there is no option 'second'; did you mean 'seconds'",
        "line 5: ",
        "line 6: clips/my bell.flac is the file of another line",
        "line 7: not JSON",
    ):
        assert message in done.stderr
    assert sorted(os.listdir(tmp_path / "clips")) == ["001-soft-rain.wav", "my bell.flac"]
    found = read_provenance(tmp_path / "clips" / "001-soft-rain.wav")
    assert (found.prompt, found.seed, found.options["seconds"]) == ("soft rain", 5, 0.2)


def test_prompts_without_words(call, tmp_path):
    """Nearly always a slip; only what starts from a recording does without."""
    assert call("gen", "tone", "--seconds", 0.2, "-o", "tone.wav").returncode == 0
    again = {"init_audio": "tone.wav", "seconds": 0.1, "steps": 1}
    (tmp_path / "list.jsonl").write_text("\n".join(map(json.dumps, [{"prompt": ""}, {"prompt": " "}, {"prompt": "", **again}])))
    (tmp_path / "list.csv").write_text('prompt,init,seconds,steps\n"",,0.1,1\n"",tone.wav,0.1,1\n')
    for name, failed in (("list.jsonl", (1, 2)), ("list.csv", (2,))):
        done = call("batch", name, "-o", name[-3:])
        assert f"1 made, 0 there before, {len(failed)} failed" in done.stderr
        for number in failed:
            assert f"line {number}: the prompt is empty, expected a description of the sound" in done.stderr
    assert call("gen", "", "--init", "tone.wav", "--seconds", 0.1, "--steps", 1, "-o", "none.wav").returncode == 0
    # It is made again as it was made.
    assert call("gen", "--from", "none.wav", "-o", "again.wav").returncode == 0
    assert (tmp_path / "again.wav").read_bytes() == (tmp_path / "none.wav").read_bytes()


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
    write_list(tmp_path, rows)
    done = call("batch", "list.jsonl", stderr=subprocess.STDOUT)
    assert done.returncode == 1
    told = done.stdout.splitlines()
    assert [line.split(":")[0] for line in told[:3]] == ["line 3", "line 4", "line 5"]
    assert "a loop needs bpm and bars" in told[0]
    assert "extend needs initial audio" in told[1]
    assert "nothing.wav does not exist" in told[2]
    assert told[3:] == ["001-rain.wav", "002-wind.wav", "2 made, 0 there before, 3 failed"]


def test_a_sidecar_that_is_there_is_refused_before_the_work(call, tmp_path):
    (tmp_path / "001-rain.json").write_text("mine")
    write_list(tmp_path, [{"prompt": "rain", "steps": 1_000_000}, {"prompt": "wind", **SHORT}])
    done = call("batch", "list.jsonl", "--json")
    assert done.returncode == 1
    assert "line 1: 001-rain.json exists" in done.stderr
    assert sorted(os.listdir(tmp_path)) == ["001-rain.json", "002-wind.json", "002-wind.wav", "list.jsonl"]
    assert (tmp_path / "001-rain.json").read_text() == "mine"
    assert json.loads((tmp_path / "002-wind.json").read_text())["sao-onnx"]["prompt"] == "wind"
    refused, made = map(json.loads, done.stdout.splitlines())
    assert refused == {"line": 1, "error": {"type": "OutputExistsError", "message": refused["error"]["message"]}}
    assert "001-rain.json exists" in refused["error"]["message"]
    assert (made["line"], made["made"], made["prompt"], made["file"]) == (2, True, "wind", "002-wind.wav")


def test_what_is_there_and_is_another_clip(call, tmp_path):
    (tmp_path / "list.txt").write_text("rain\nwind\nkick\n")
    assert call("gen", "wind", "-o", "001-rain.wav", "--seconds", 0.1).returncode == 0
    assert call("gen", "wind", "-o", "002-wind.wav", "--seconds", 0.1, "--no-metadata").returncode == 0
    (tmp_path / "003-kick.wav").write_text("notes")
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.wav")}
    done = call("batch", "list.txt")
    assert done.returncode == 1
    assert "line 1: 001-rain.wav exists and was made of another request (prompt: 'wind', now 'rain'); --force" in done.stderr
    assert "line 2: 002-wind.wav exists and does not say how it was made; --force replaces it" in done.stderr
    assert "line 3: 003-kick.wav exists and is no clip" in done.stderr
    assert "0 made, 0 there before, 3 failed" in done.stderr
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.wav")} == before
    write_list(tmp_path, [{"prompt": prompt, **SHORT} for prompt in ("rain", "wind", "kick")])
    assert "3 made" in call("batch", "list.jsonl", "--force").stderr


def test_clips_without_metadata_are_found_by_their_names(call, tmp_path):
    """Nothing else tells, and a batch that was interrupted goes on."""
    write_list(tmp_path, [{"prompt": "rain", **SHORT}])
    assert "1 made" in call("batch", "list.jsonl", "--no-metadata").stderr
    assert "0 made, 1 there before, 0 failed" in call("batch", "list.jsonl", "--no-metadata").stderr
    assert "0 made, 0 there before, 1 failed" in call("batch", "list.jsonl").stderr


@pytest.mark.parametrize(
    ("changed", "arguments", "message"),
    [
        ({"steps": 2}, [], "(steps: 1, now 2)"),
        ({"steps": None}, [], "(steps: 1, now not given)"),
        ({"mono": True}, [], "(mono: not given, now True)"),
        ({"numbers": {"seconds_total": 2}}, [], "(numbers: not given, now {'seconds_total': 2.0})"),
        ({"prompt": "wind", "output": "001-rain.wav"}, [], "(prompt: 'rain', now 'wind')"),
        ({"seed": 4}, [], "(seed: 3, now 4)"),
        ({}, ["--precision", "int8"], "(precision: 'fp32', now 'int8')"),
    ],
)
def test_a_changed_line_is_another_clip(call, tmp_path, changed, arguments, message):
    row = {"prompt": "rain", "seed": 3, "keep": "0:0.05", "init": "rec.wav", **SHORT}
    soundfile.write(tmp_path / "rec.wav", np.zeros(9000), 44100)
    write_list(tmp_path, [row])
    assert "1 made" in call("batch", "list.jsonl", "--precision", "fp32").stderr
    assert "1 there before" in call("batch", "list.jsonl", "--precision", "fp32").stderr
    write_list(tmp_path, [{key: value for key, value in {**row, **changed}.items() if value is not None}])
    done = call("batch", "list.jsonl", *(arguments or ["--precision", "fp32"]))
    assert done.returncode == 1
    assert f"line 1: 001-rain.wav exists and was made of another request {message}; --force replaces it" in done.stderr


def test_whose_seed_was_drawn_is_found_again(call, tmp_path):
    write_list(tmp_path, [{"prompt": "rain", **SHORT}])
    assert "1 made" in call("batch", "list.jsonl").stderr
    assert "1 there before" in call("batch", "list.jsonl").stderr
    done = call("batch", "list.jsonl", "--seed", read_provenance(tmp_path / "001-rain.wav").seed ^ 1)
    assert "line 1: 001-rain.wav exists and was made of another request (seed: " in done.stderr


def test_another_model_makes_another_clip(call, tmp_path):
    write_list(tmp_path, [{"prompt": "rain", **SHORT}])
    assert "1 made" in call("batch", "list.jsonl").stderr
    done = run([COMMAND, "batch", "list.jsonl", "--model", "sao-tiny"], cwd=tmp_path)
    assert done.returncode == 1
    assert "line 1: 001-rain.wav exists and was made by another model, or another conversion of it: " in done.stderr


def test_two_lines_of_one_file(call, tmp_path):
    """The second one is told the same, whether the first one is made or there before."""
    write_list(tmp_path, [{"prompt": prompt, "output": "a.wav", **SHORT} for prompt in ("rain", "wind")])
    for counts in ("1 made, 0 there before, 1 failed", "0 made, 1 there before, 1 failed"):
        done = call("batch", "list.jsonl")
        assert "line 2: a.wav is the file of another line, too" in done.stderr
        assert counts in done.stderr


def test_two_lines_of_one_sidecar(call, tmp_path):
    """Before the work, not after it."""
    rows = [{"prompt": "rain", "output": "a.wav", **SHORT}, {"prompt": "rain", "output": "a.flac", "steps": 1_000_000}]
    write_list(tmp_path, rows)
    done = call("batch", "list.jsonl", "--json")
    assert "line 2: a.json is the file of another line, too" in done.stderr
    assert sorted(os.listdir(tmp_path)) == ["a.json", "a.wav", "list.jsonl"]


def test_what_a_clip_starts_from_is_not_replaced(call, tmp_path):
    soundfile.write(tmp_path / "rec.wav", np.zeros(9000), 44100)
    write_list(tmp_path, [{"prompt": "rain", "output": "rec.wav", "init": "./rec.wav", **SHORT}])
    done = call("batch", "list.jsonl", "--force")
    assert "line 1: rec.wav is the audio that the clip starts from" in done.stderr
    assert soundfile.info(tmp_path / "rec.wav").frames == 9000


@pytest.mark.parametrize("same", [True, False])
def test_a_clip_that_another_process_makes_meanwhile(engine, tmp_path, monkeypatch, same):
    prompt, generate = "rain" if same else "wind", engine.generate

    def late(request):
        generate(prompt, **SHORT).save(tmp_path / "001-rain.wav")
        return generate(request)

    monkeypatch.setattr(engine, "generate", late)
    name = "{index:03}-{prompt}.wav"
    files = Files(Folder(tmp_path), name, seed=None, bits=None, metadata=True, sidecar=False, force=False)
    clips = Clips(engine, files)
    task = clips.checked(Line(1, 1, "rain", SHORT))
    assert isinstance(task, Task)
    answer = clips.make(task)
    if same:
        assert answer.about == {"made": False, "file": str(tmp_path / "001-rain.wav")}
    else:
        assert isinstance(answer.error, OutputExistsError)
        assert "was made of another request" in str(answer.error)
    assert read_provenance(tmp_path / "001-rain.wav").prompt == prompt


def test_two_batches_share_a_folder(miniature, tmp_path):
    """What the other one has made meanwhile is there before."""
    write_list(tmp_path, [{"prompt": f"rain {i}", "seconds": 0.1, "steps": 8} for i in range(6)])
    command = [COMMAND, "batch", "list.jsonl", "-o", "clips", "--model", miniature, "--threads", 1]
    with started(command, cwd=tmp_path, stderr=subprocess.PIPE) as first:
        second = run(command, cwd=tmp_path)
        _, told = first.communicate(timeout=GUARD)
    assert (first.returncode, second.returncode) == (0, 0), (told, second.stderr)
    counts = [re.search(r"(\d+) made, (\d+) there before, 0 failed", text) for text in (told.decode(), second.stderr)]
    made, there = (sum(int(found[group]) for found in counts if found) for group in (1, 2))
    assert (made, there) == (6, 6)
    assert len(os.listdir(tmp_path / "clips")) == 6


LEADING_ELSEWHERE: list[Any] = [
    "../x.wav",
    "/absolute.wav",
    "sub/x.wav",
    "./x.wav",
    "link/x.wav",
    "a\\b.wav",
    "..\\x.wav",
    "C:x.wav",
    "x.wav:stream.wav",
    "~x.wav",
    "NUL.wav",
    "com1 .x.wav",
    "x.wav.",
    "x.wav ",
    ".",
    "..",
    "a\0.wav",
    "a\n.wav",
    "a?.wav",
    5,
    ["x.wav"],
    False,
    "x" * 252 + ".wav",
    "雨" * 84 + ".wav",
]


def test_every_clip_is_in_its_folder(call, tmp_path):
    """Whatever a line names: a list may come from anybody, and means the same on every system."""
    (tmp_path / "clips").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "clips" / "link").symlink_to(tmp_path / "elsewhere")
    names = [*LEADING_ELSEWHERE, "x" * 200 + ".wav", "雨 kick.wav", "null.wav"]
    write_list(tmp_path, [{"prompt": "rain", "output": name, **SHORT} for name in names])
    done = call("batch", "list.jsonl", "-o", "clips")
    told = done.stderr.splitlines()
    assert [line.partition(": ")[0] for line in told[:-1]] == [f"line {i + 1}" for i in range(len(LEADING_ELSEWHERE))]
    assert all(": the output is " in line and "expected" in line for line in told[:-1])
    assert told[-1] == f"3 made, 0 there before, {len(LEADING_ELSEWHERE)} failed"
    assert sorted(os.listdir(tmp_path / "clips")) == sorted([*names[-3:], "link"])
    assert sorted(os.listdir(tmp_path)) == ["clips", "elsewhere", "list.jsonl"]
    assert os.listdir(tmp_path / "elsewhere") == []


@pytest.mark.parametrize(
    "name", ["../{index}.wav", "{prompt}/{index}.wav", "{prompt:/>9}.wav", "C:{index}.wav", "~{index}.wav"]
)
def test_no_template_leads_elsewhere(call, tmp_path, name):
    (tmp_path / "list.txt").write_text("rain\n")
    done = call("batch", "list.txt", "--name", name, "-o", "clips")
    assert done.returncode == 2
    assert "expected a file name, such as kick.wav, with no folder" in done.stderr
    assert os.listdir(tmp_path) == ["list.txt"]


@pytest.mark.parametrize("arguments", [[], ["--force"]])
@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("suffix", [".wav", ".json"])
def test_no_link_leads_elsewhere(call, tmp_path, arguments, there, suffix):
    """Neither to a file that would be replaced, nor to one that would be made."""
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "001-rain").with_suffix(suffix).symlink_to(tmp_path / "victim")
    if there:
        (tmp_path / "victim").write_text("mine")
    write_list(tmp_path, [{"prompt": "rain", **SHORT}, {"prompt": "wind", **SHORT}])
    done = call("batch", "list.jsonl", "-o", "clips", "--json", *arguments)
    assert done.returncode == 1
    assert "line 1: clips/001-rain" in done.stderr
    assert "1 made, 0 there before, 1 failed" in done.stderr
    assert sorted(os.listdir(tmp_path)) == ["clips", "list.jsonl", *(["victim"] if there else [])]
    assert not there or (tmp_path / "victim").read_text() == "mine"


def test_a_folder_can_be_a_link(call, tmp_path):
    """The one that the user names."""
    (tmp_path / "card").mkdir()
    (tmp_path / "clips").symlink_to(tmp_path / "card")
    write_list(tmp_path, [{"prompt": "rain", **SHORT}])
    assert call("batch", "list.jsonl", "-o", "clips").returncode == 0
    assert os.listdir(tmp_path / "card") == ["001-rain.wav"]


def test_what_is_no_file_is_not_waited_for(call, tmp_path):
    """A FIFO has no end, and opening it none either."""
    os.mkfifo(tmp_path / "001-rain.wav")
    (tmp_path / "002-wind.wav").mkdir()
    write_list(tmp_path, [{"prompt": prompt, **SHORT} for prompt in ("rain", "wind", "kick")])
    done = call("batch", "list.jsonl")
    assert done.stdout.split() == ["003-kick.wav"]
    assert "line 1: 001-rain.wav " in done.stderr
    assert "line 2: 002-wind.wav is a folder" in done.stderr


def test_indices_and_seeds_count_every_line(call, tmp_path):
    """Also those that cannot be used, so that the others keep theirs when these are mended."""
    (tmp_path / "list.jsonl").write_text(
        '{"prompt": "a"}\n\n{\n{"prompt": "b", "seconds": -1}\n{"prompt": "c", "seed": 3}\n{"prompt": "d"}'
    )
    done = call("batch", "list.jsonl", "--seed", 10, "--name", "{index}-{seed}.wav")
    assert done.stdout.split() == ["1-10.wav", "4-3.wav", "5-14.wav"]
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == [
        "line 3",
        "line 4",
        "3 made, 0 there before, 2 failed",
    ]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is read-only for the administrator")
def test_a_read_only_folder_is_told_once(call, tmp_path):
    (tmp_path / "clips").mkdir(mode=0o555)
    (tmp_path / "list.txt").write_text("rain\nwind\n")
    done = call("batch", "list.txt", "-o", "clips")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)


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


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_a_clip_that_is_cut_off_is_not_there(call, tmp_path, suffix):
    write_list(tmp_path, [{"prompt": "rain", **SHORT}])
    options = ("batch", "list.jsonl", "-o", "out", "--seed", 1, "--name", "{index}" + suffix)
    assert call(*options).returncode == 0
    path = tmp_path / "out" / f"1{suffix}"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    done = call(*options, "-q")
    assert done.returncode == 1
    assert "exists and is damaged or cut off; --force replaces it" in done.stderr
    assert "0 made, 0 there before, 1 failed" in done.stderr, "told where something failed, however quiet"
    assert call(*options, "--force").returncode == 0
    assert path.read_bytes() == whole


def test_a_clip_that_would_be_written_otherwise_is_another(call, tmp_path):
    write_list(tmp_path, [{"prompt": "rain", **SHORT}])
    options = ("batch", "list.jsonl", "-o", "out", "--seed", 1)
    assert call(*options).returncode == 0
    for other, message in (
        ("--bits", "was written with the format's bits, now 24 bits"),
        ("--no-metadata", "says how it was made"),
    ):
        done = call(*options, other, *([24] if other == "--bits" else []))
        assert done.returncode == 1
        assert message in done.stderr


@pytest.mark.parametrize("name", ["list.json", "list.tsv", "list.xlsx"])
def test_lists_of_other_programs_are_not_taken_for_prompts(call, tmp_path, name):
    (tmp_path / name).write_text('[{"prompt": "rain"}]')
    done = call("batch", name, "-o", "out")
    assert done.returncode == 2
    assert "save it as .csv or .jsonl" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a terminal of POSIX")
def test_names_go_to_a_file_while_a_terminal_shows_the_bar(miniature, tmp_path):
    """As in `sao-onnx batch list.txt > names.txt`."""
    write_list(tmp_path, [{"prompt": f"rain {i}", **SHORT} for i in range(4)])
    ours, theirs = os.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    with (tmp_path / "names.txt").open("w") as names:
        command = [COMMAND, "batch", "list.jsonl", "-o", "clips", "--model", miniature]
        with started(command, cwd=tmp_path, stdout=names, stderr=theirs, env=environment) as process:
            os.close(theirs)
            shown = b""
            with contextlib.suppress(OSError):  # The end of a terminal.
                while piece := os.read(ours, 4096):
                    shown += piece
            process.wait(timeout=GUARD)
    os.close(ours)
    assert process.returncode == 0
    assert sorted((tmp_path / "names.txt").read_text().split()) == [f"clips/{i + 1:03}-rain-{i}.wav" for i in range(4)]
    assert b"clips/001" not in shown
    assert b"4/4" in shown
    assert b"clips a minute" in shown
    assert shown.rstrip().endswith(b"4 made, 0 there before, 0 failed")
