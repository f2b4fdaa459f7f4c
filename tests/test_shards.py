"""A list in shards: every line once, with the file, the seed and the samples of the whole list."""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sao_onnx.batch.folder import Folder
from sao_onnx.batch.lists import Line
from sao_onnx.batch.pace import Pace, time_left
from sao_onnx.batch.shard import Shard
from sao_onnx.batch.tasks import Files, Tasks
from sao_onnx.errors import RequestError, SaoOnnxError
from tests.processes import COMMAND, run

SHORT = {"seconds": 0.1, "steps": 1}


@pytest.fixture
def call(miniature, tmp_path):
    def call(*arguments):
        return run([COMMAND, "batch", *arguments, "--model", miniature], cwd=tmp_path)

    return call


def write_list(folder, rows):
    (folder / "list.jsonl").write_text("".join(f"{json.dumps({**SHORT, **row})}\n" for row in rows))


def wanted(lines, path):
    """File and seed of each line that has one."""
    files = Files(Folder(path), "{index}-{prompt}.wav", seed=7, bits=None, metadata=True, sidecar=False, force=False)
    tasks, found = Tasks(files, str), {}
    for line in lines:
        try:
            task = tasks.of(line)
        except SaoOnnxError:
            continue
        found[task.number] = (task.name, task.request.seed)
    return found


@given(
    prompts=st.lists(st.sampled_from(["rain", "wind", "kick", ""]), max_size=40),
    outputs=st.lists(st.sampled_from([None, "a.wav", "b.wav", "../c.wav"]), min_size=40, max_size=40),
    count=st.integers(1, 50),
)
def test_shards_are_disjoint_and_complete(tmp_path_factory, prompts, outputs, count):
    lines = [
        Line(10 + index, index, prompt, {} if output is None else {"output": output}, "" if prompt else "the prompt is missing")
        for index, (prompt, output) in enumerate(zip(prompts, outputs, strict=False), start=1)
    ]
    parts = [list(Shard(index, count).of(lines)) for index in range(1, count + 1)]
    assert sorted(line.number for part in parts for line in part) == [line.number for line in lines]
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    # Names and seeds are decided before, in the whole list.
    whole = wanted(lines, tmp_path_factory.getbasetemp())
    assert len({name for name, _ in whole.values()}) == len(whole)
    for number, (_, seed) in whole.items():
        assert seed == 7 + number - 11


def test_shards_make_what_the_whole_list_makes(call, tmp_path):
    rows = [{"prompt": f"rain {i}"} for i in range(5)] + [
        {"prompt": "x", "output": "003-rain-2.wav"},
        {"prompt": "y", "seconds": -1},
    ]
    write_list(tmp_path, rows)
    whole = call("list.jsonl", "-o", "whole", "--seed", 3, "--name", "{index:03}-{prompt}.wav")
    assert (whole.returncode, whole.stderr.splitlines()[-1]) == (1, "5 made, 0 there before, 2 failed")
    told, printed = [], []
    for index in (3, 1, 2):
        done = call("list.jsonl", "-o", "parts", "--seed", 3, "--shard", f"{index}/3")
        told += done.stderr.splitlines()
        printed += done.stdout.splitlines()
    assert sorted(printed) == sorted(f"parts/{name}" for name in os.listdir(tmp_path / "parts"))
    assert sorted(line.replace("whole/", "parts/") for line in whole.stderr.splitlines()[:-1]) == sorted(
        line for line in told if line.startswith("line ")
    ), "each bad line is told by one shard, also where its file is that of a line in another shard"
    assert sorted(os.listdir(tmp_path / "parts")) == sorted(os.listdir(tmp_path / "whole"))
    for path in (tmp_path / "whole").iterdir():
        assert (tmp_path / "parts" / path.name).read_bytes() == path.read_bytes()
    again = call("list.jsonl", "-o", "parts", "--seed", 3)
    assert again.stderr.splitlines()[-1] == "0 made, 5 there before, 2 failed"


def test_a_shard_can_be_empty(call, tmp_path):
    write_list(tmp_path, [{"prompt": "rain"}])
    done = call("list.jsonl", "--shard", "2/9")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "0 made, 0 there before, 0 failed\n")


def test_a_list_that_changes_between_shards_replaces_nothing(call, tmp_path):
    """What was made of the old list is reported; a run over the whole new list makes the rest."""
    write_list(tmp_path, [{"prompt": "rain", "output": "1.wav"}, {"prompt": "wind", "output": "2.wav"}])
    assert call("list.jsonl", "-o", "clips", "--seed", 1, "--shard", "1/2").returncode == 0
    before = (tmp_path / "clips" / "1.wav").read_bytes()
    write_list(tmp_path, [{"prompt": "kick", "output": "1.wav"}, {"prompt": "rain", "output": "2.wav"}])
    assert call("list.jsonl", "-o", "clips", "--seed", 1, "--shard", "2/2").returncode == 0
    done = call("list.jsonl", "-o", "clips", "--seed", 1)
    assert done.returncode == 1
    assert "line 1: clips/1.wav exists and was made of another request (prompt: 'rain', now 'kick')" in done.stderr
    assert "0 made, 1 there before, 1 failed" in done.stderr
    assert (tmp_path / "clips" / "1.wav").read_bytes() == before


def test_names_by_what_the_clip_is(call, tmp_path):
    """A line keeps its file wherever it stands in the list, and what changes the clip changes the name."""
    options = ("list.jsonl", "-o", "clips", "--name", "{hash}.wav")
    write_list(tmp_path, [{"prompt": prompt, "seed": 1} for prompt in ("rain", "wind")])
    assert "2 made" in call(*options).stderr
    write_list(tmp_path, [{"prompt": prompt, "seed": 1} for prompt in ("kick", "wind", "rain")])
    assert "1 made, 2 there before" in call(*options).stderr
    write_list(
        tmp_path, [{"prompt": "kick", "seed": 2}, {"prompt": "kick", "seed": 1, "steps": 2}, {"prompt": "kick", "seed": 1}]
    )
    assert "2 made, 1 there before" in call(*options).stderr
    assert "3 made" in call(*options, "--bits", 24).stderr
    assert "3 made" in call(*options, "--precision", "fp32").stderr


@pytest.mark.parametrize("text", ["", "3", "0/4", "5/4", "a/b", "1/0", "-1/4", "1/4/2", "1.0/2", "9" * 30 + "/" + "9" * 30])
def test_what_is_no_shard(text):
    with pytest.raises(RequestError, match="expected which of how many, such as 3/20"):
        Shard.read(text)


def test_more_shards_than_there_can_be():
    with pytest.raises(RequestError, match=r"such as 3/20 and of at most 999,999,999$"):
        Shard.read("3/2000000000")
    assert Shard.read("3/999999999").count == 999_999_999


def test_shards_are_counted_from_one(call, tmp_path):
    write_list(tmp_path, [{"prompt": "rain"}])
    done = call("list.jsonl", "--shard", "0/4")
    assert done.returncode == 2
    assert "add 1 to an index from 0" in done.stderr


def test_the_settings_beside_a_clip_are_made_up_for(call, tmp_path):
    """Whoever was killed between the two files."""
    write_list(tmp_path, [{"prompt": "rain"}])
    assert call("list.jsonl", "--json", "--seed", 1).returncode == 0
    before = (tmp_path / "001-rain.json").read_bytes()
    (tmp_path / "001-rain.json").unlink()
    assert call("list.jsonl", "--json", "--seed", 1).returncode == 0
    assert (tmp_path / "001-rain.json").read_bytes() == before


def test_the_pace_and_the_time_that_is_left():
    clock = 0.0
    pace = Pace(100, now=lambda: clock)
    assert (pace.a_minute, pace.left, str(pace)) == (None, None, "")
    for _ in range(5):
        clock += 10
        pace.count(made=True)
    pace.count(made=False)
    assert pace.a_minute == pytest.approx(6)
    assert pace.left == pytest.approx(94 * 10)
    assert str(pace) == "6.0 clips a minute, 16 min left"
    clock += 40
    assert pace.a_minute == pytest.approx(3), "where none comes any longer, the pace falls"
    clock += 10_000
    pace.count(made=True)
    pace.count(made=True)
    for _ in range(10):
        clock += 1
        pace.count(made=True)
    assert pace.a_minute == pytest.approx(60 * 11 / 10, rel=0.2), "what was long ago does not count"
    assert str(Pace(None, now=lambda: clock)) == ""
    assert [time_left(seconds) for seconds in (99.4, 3000, 27_000)] == ["99 s left", "50 min left", "7.5 h left"]
