"""`sao-onnx batch -` as a worker of another program: lines as they come, answers as they are made; what ends it early."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from tests.processes import COMMAND, GUARD, interrupt, run, started

SHORT = {"seconds": 0.1, "steps": 1}

FAULTY = """
import errno, os, sys
import sao_onnx.cli
from sao_onnx.engine import Engine
fsync, generate, room = os.fsync, Engine.generate, [int(sys.argv.pop(1))]
def full(descriptor):
    room[0] -= 1
    if room[0] < 0:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    fsync(descriptor)
def faulty(self, request):
    if request.prompt in ("MemoryError", "ZeroDivisionError"):
        raise eval(request.prompt)(*["of the test"] * (request.prompt[0] == "Z"))
    return generate(self, request)
os.fsync, Engine.generate = full, faulty
sao_onnx.cli.main()
"""
"""The command, on a disk that is full after so many files, and with an engine that fails for some prompts."""


@pytest.fixture
def worker(miniature, tmp_path):
    """A batch that reads stdin."""

    def worker(*arguments, format="jsonl", command=(COMMAND,)):
        options = {"cwd": tmp_path, "stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        command = [*command, "batch", "-", "--format", format, "--model", miniature, *arguments]
        return started(command, text=True, bufsize=1, **options)

    return worker


def ask(process, *rows):
    for row in rows:
        process.stdin.write(f"{row if isinstance(row, str) else json.dumps({**SHORT, **row})}\n")
        process.stdin.flush()


def answer(process):
    return json.loads(process.stdout.readline())


def end(process):
    """Close stdin; the exit code, and what was left on stdout and stderr."""
    stdout, stderr = process.communicate(timeout=GUARD)
    return process.returncode, stdout, stderr


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_line_is_answered_before_the_next_one_comes(worker, tmp_path, jobs):
    with worker("--json", "--jobs", jobs, "--seed", 5) as process:
        for number in (1, 2):
            ask(process, {"prompt": f"rain {number}"})
            found = answer(process)
            assert (found["line"], found["made"], found["prompt"]) == (number, True, f"rain {number}")
            assert found["seed"] == 4 + number
            assert (tmp_path / found["file"]).is_file()
        code, stdout, stderr = end(process)
    assert (code, stdout, stderr) == (0, "", "2 made, 0 there before, 0 failed\n")


def test_every_line_has_an_answer(worker, tmp_path):
    with worker("--json") as process:
        ask(process, {"prompt": "rain"}, "", "{", {"prompt": "a", "seconds": 9999}, {"prompt": "b", "output": "../b.wav"})
        answers = [answer(process) for _ in range(4)]
        ask(process, {"prompt": "rain", "output": "001-rain.wav"})
        answers.append(answer(process))
        process.stdin.write('{"prompt": "last", "seconds": 0.1}')
        code, stdout, stderr = end(process)
    answers.append(json.loads(stdout))
    assert [found["line"] for found in answers] == [1, 3, 4, 5, 6, 7]
    assert [found.get("made") for found in answers] == [True, None, None, None, False, True]
    assert answers[4] == {"line": 6, "made": False, "file": "001-rain.wav"}
    assert [found["error"]["type"] for found in answers[1:4]] == ["RequestError"] * 3
    for found in answers[1:4]:
        assert f"line {found['line']}: {found['error']['message']}\n" in stderr
    assert "2 made, 1 there before, 3 failed" in stderr
    assert code == 1
    assert sorted(os.listdir(tmp_path)) == ["001-rain.json", "001-rain.wav", "006-last.json", "006-last.wav"]


def test_names_and_csv_from_stdin(miniature, tmp_path):
    text = "prompt,seconds\n" + "".join(f"kick {i},0.1\n" for i in range(5))
    arguments = ["--format", "csv", "--jobs", 2, "--seed", 10, "--name", "{seed}.ogg", "-q", "--model", miniature]
    done = run([COMMAND, "batch", "-", *arguments], cwd=tmp_path, input=text)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(done.stdout.split()) == [f"{seed}.ogg" for seed in range(10, 15)]
    assert sorted(os.listdir(tmp_path)) == [f"{seed}.ogg" for seed in range(10, 15)]


def test_a_name_can_be_used_again_by_a_worker(worker, tmp_path):
    with worker("--json", "--force") as process:
        for prompt in ("rain", "wind"):
            ask(process, {"prompt": prompt, "output": "now.wav"})
            assert (answer(process)["made"], json.loads((tmp_path / "now.json").read_text())["sao-onnx"]["prompt"]) == (
                True,
                prompt,
            )


def test_a_worker_is_interrupted(worker):
    with worker("--json") as process:
        ask(process, {"prompt": "rain"})
        answer(process)
        # It waits for a line.
        assert interrupt(process)[0] == 130


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing\n"])
def test_nothing_on_stdin(miniature, tmp_path, text):
    done = run([COMMAND, "batch", "-", "--model", miniature], cwd=tmp_path, input=text)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: - holds no requests\n"


@pytest.mark.skipif(sys.platform == "win32", reason="another shell")
def test_stdin_is_closed(tmp_path):
    done = run(["sh", "-c", f"'{COMMAND}' batch - <&-"], cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("error: ")


def test_a_bad_header_ends_a_worker(worker):
    with worker(format="csv") as process:
        ask(process, "text,seconds")
        process.wait(timeout=GUARD)
        assert (process.returncode, process.stderr.read()) == (
            2,
            "error: the columns are text, seconds; one of them must be prompt\n",
        )


def test_nobody_reads_the_answers(worker, tmp_path):
    """A worker ends with the first answer that it cannot give, though lines may still come."""
    with worker("--json") as process:
        ask(process, {"prompt": "rain"})
        answer(process)
        process.stdout.close()
        ask(process, {"prompt": "wind"})
        process.wait(timeout=GUARD)
        assert (process.returncode, process.stderr.read()) == (1, "")


def test_nobody_reads_the_names(miniature, tmp_path):
    """As in `sao-onnx batch list.txt | head -1`."""
    (tmp_path / "list.txt").write_text("".join(f"rain {i}\n" for i in range(40)))
    command = [COMMAND, "batch", "list.txt", "-o", "clips", "--model", miniature, "--jobs", 2]
    with started(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline()
        process.stdout.close()
        process.wait(timeout=GUARD)
        assert (process.returncode, process.stderr.read()) == (1, b"")
    assert 2 <= len(list((tmp_path / "clips").iterdir())) < 40


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_folder_that_vanishes_ends_a_batch(worker, tmp_path, jobs):
    with worker("--json", "-o", "clips", "--jobs", jobs) as process:
        ask(process, {"prompt": "rain"})
        assert answer(process)["made"]
        shutil.rmtree(tmp_path / "clips")
        ask(process, {"prompt": "wind"})
        assert answer(process)["error"]["type"] == "FileError"
        process.wait(timeout=GUARD)
        told = process.stderr.read().splitlines()
    assert process.returncode == 1
    assert told[0].startswith("line 2: the folder clips does not exist")
    assert told[0].endswith("; the batch ends here, run it again for the rest")
    assert told[1:] == ["1 made, 0 there before, 1 failed"]


def test_a_full_disk_ends_a_batch(miniature, tmp_path):
    (tmp_path / "list.jsonl").write_text("".join(json.dumps({"prompt": f"rain {i}", **SHORT}) + "\n" for i in range(9)))
    arguments = ["batch", "list.jsonl", "-o", "clips", "--model", miniature]
    done = run([sys.executable, "-c", FAULTY, 2, *arguments], cwd=tmp_path)
    assert done.returncode == 1
    told = done.stderr.splitlines()
    assert told[0].startswith("line 3: ")
    assert told[0].endswith("No space left on device; the batch ends here, run it again for the rest")
    assert told[1:] == ["2 made, 0 there before, 1 failed, 6 left"]
    assert sorted(os.listdir(tmp_path / "clips")) == ["001-rain-0.wav", "002-rain-1.wav"]
    done = run([COMMAND, *arguments], cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "7 made, 2 there before, 0 failed\n")


@pytest.mark.parametrize("live", [True, False])
def test_whatever_happens_to_a_line_the_others_go_on(miniature, tmp_path, live):
    prompts = ["rain", "MemoryError", "ZeroDivisionError", "wind"]
    text = "".join(json.dumps({"prompt": prompt, **SHORT}) + "\n" for prompt in prompts)
    (tmp_path / "list.jsonl").write_text(text)
    arguments = ["batch", "-" if live else "list.jsonl", "--format", "jsonl", "--model", miniature, "--json"]
    done = run([sys.executable, "-c", FAULTY, 99, *arguments], cwd=tmp_path, input=text)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "line 2: MemoryError",
        "line 3: ZeroDivisionError: of the test",
        "2 made, 0 there before, 2 failed",
    ]
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [found.get("made") for found in answers] == [True, None, None, True]
    assert answers[2] == {"line": 3, "error": {"type": "ZeroDivisionError", "message": "of the test"}}


@pytest.mark.parametrize("file", ["-", "list.jsonl"])
def test_warnings_come_once_and_name_their_line(miniature, tmp_path, file):
    text = "".join(json.dumps({"prompt": "a", **SHORT, **more}) + "\n" for more in ({}, {"negative_prompt": "b"}))
    (tmp_path / "list.jsonl").write_text(text)
    arguments = [file, "--format", "jsonl", "--model", miniature]
    done = run([COMMAND, "batch", *arguments], cwd=tmp_path, input=text)
    assert done.returncode == 0
    assert done.stderr.splitlines() == [
        "warning: line 2: a negative prompt has no effect without guidance; set cfg_scale above 1",
        "2 made, 0 there before, 0 failed",
    ]
