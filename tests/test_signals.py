"""Signals at any moment: the command ends with 130 and one line, and leaves whole files or none."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import soundfile

from sao_onnx import writing
from sao_onnx.writing import PARTIAL, remove_unfinished, write_whole
from tests import processes
from tests.processes import COMMAND, interrupt, started, wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and locks are POSIX's")

NUMBERS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]

PIPES: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}


def _line(process: subprocess.Popen[Any]) -> Any:
    """The next line that a program writes to stdout."""
    assert process.stdout is not None
    return process.stdout.readline()


IMPORTING = """
import sys
wanted = sys.argv[1]
class Stop:
    def find_spec(self, name, path=None, target=None):
        if name == wanted:
            print("here", flush=True)
            import time; time.sleep(1800)
sys.meta_path.insert(0, Stop())
from sao_onnx.cli import main
sys.argv[1:] = sys.argv[2:]
main()
"""


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("module", ["typer", "numpy"])
def test_while_modules_are_imported(tmp_path, number, module):
    with started([sys.executable, "-c", IMPORTING, module, "gen", "rain", "-q"], cwd=tmp_path, **PIPES) as process:
        assert _line(process) == "here\n"
        assert interrupt(process, number) == (130, "interrupted\n")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("module", ["typer", "numpy", "uvicorn"])
def test_while_a_server_starts(tmp_path, number, module):
    """It ends as it does later: a service manager that stops it sees no failure."""
    pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")
    with started([sys.executable, "-c", IMPORTING, module, "serve", "--port", "0"], cwd=tmp_path, **PIPES) as process:
        assert _line(process) == "here\n"
        assert interrupt(process, number)[0] == 0


BENEATH = """
import atexit, sys, threading, time
from sao_onnx.cli import signals
atexit.register(print, "in order")
thread = threading.Thread(target=time.sleep, args=(float(sys.argv[1]),), daemon=True)
signals.leave([thread])
thread.start()
time.sleep(0.2)
signals.end(3)
"""


@pytest.mark.parametrize(("seconds", "said"), [(1800, ""), (0, "in order\n")])
def test_python_does_not_end_beneath_a_graph(seconds, said):
    """ONNX Runtime's threads would abort the process."""
    done = processes.run([sys.executable, "-c", BENEATH, str(seconds)])
    assert (done.returncode, done.stdout, done.stderr) == (3, said, "")


FAILING = """
import sys
from sao_onnx.cli import gen, main
from sao_onnx.errors import FileError
seen = []
def fail(event):
    seen.append(event)
    if len(seen) == 3:  # The first graph is loaded and in its second run.
        raise FileError("no space left")
    return ""
gen._stage = fail
sys.argv[1:] = ["gen", "rain", "--steps", "200", "--quiet"]
main()
"""


def test_an_error_while_a_graph_runs(tmp_path):
    for _ in range(3):
        done = processes.run([sys.executable, "-c", FAILING], cwd=tmp_path)
        assert (done.returncode, done.stderr) == (1, "error: no space left\n")


CONVERTED = """
import sys, time
class Stop:
    def find_spec(self, name, path=None, target=None):
        if name == "onnxruntime":
            print("here", flush=True)
            try:
                while True: time.sleep(0.1)
            except KeyboardInterrupt:
                raise ImportError("initialization failed")
sys.meta_path.insert(0, Stop())
from sao_onnx.cli import main
sys.argv[1:] = ["gen", "rain", "-q"]
main()
"""


def test_an_interruption_that_became_an_error(tmp_path):
    """As in libraries that are interrupted while they are loaded."""
    with started([sys.executable, "-c", CONVERTED], cwd=tmp_path, **PIPES) as process:
        assert _line(process) == "here\n"
        assert interrupt(process, signal.SIGTERM) == (130, "interrupted\n")


SLOW_DISK = """
import os, sys, time
synced = os.fsync
def slow(descriptor):
    synced(descriptor)
    open("syncing", "w").close()
    # Not in one: of two signals at once another thread may take both, and nothing wakes this one.
    while True:
        time.sleep(0.1)
os.fsync = slow
sys.argv[0] = "sao-onnx"
from sao_onnx.cli import main
main()
"""


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("command", ["gen", "preview", "batch"])
def test_while_a_file_is_written(miniature, tmp_path, command, number):
    """In the thread of a job, too, which nobody can interrupt."""
    (tmp_path / "list.txt").write_text("rain\nwind\n")
    quick = ("-m", miniature, "-q")
    arguments = {
        "gen": ("gen", "rain", "-o", "a.wav", "--steps", 1, *quick),
        "preview": ("gen", "rain", "-o", "a.wav", "--steps", 3, "--preview", "p.wav", *quick),
        "batch": ("batch", "list.txt", "--jobs", 2, *quick),
    }[command]
    # Or the first file that is written would be that of the digests that were found right.
    variables = os.environ | {"SAO_ONNX_VERIFY": "0"}
    with started([sys.executable, "-c", SLOW_DISK, *arguments], cwd=tmp_path, env=variables, **PIPES) as process:
        wait_until((tmp_path / "syncing").exists, process)
        assert [name for name in os.listdir(tmp_path) if PARTIAL.fullmatch(name)]
        assert interrupt(process, number) == (130, "interrupted\n")
    assert sorted(os.listdir(tmp_path)) == ["list.txt", "syncing"]


def test_signals_that_come_in_pairs(miniature, tmp_path):
    """A closing terminal sends several; `timeout` and shells send one to the group and one to the process."""
    for pair in ((signal.SIGINT, signal.SIGINT), (signal.SIGHUP, signal.SIGTERM), (signal.SIGTERM, signal.SIGHUP)):
        arguments = ("gen", "rain", "-o", "a.wav", "--steps", 1, "-m", miniature, "-q")
        with started([sys.executable, "-c", SLOW_DISK, *arguments], cwd=tmp_path, **PIPES) as process:
            wait_until((tmp_path / "syncing").exists, process)
            process.send_signal(pair[0])
            assert interrupt(process, pair[1]) == (130, "interrupted\n")
        assert os.listdir(tmp_path) == ["syncing"]
        (tmp_path / "syncing").unlink()


SWALLOWED = """
import sys, time
from sao_onnx.cli.signals import hear_signals
hear_signals()
try:
    print("here", flush=True)
    time.sleep(1800)
except KeyboardInterrupt:
    pass
print("swallowed", flush=True)
while True:
    time.sleep(0.1)
"""


def test_a_signal_that_was_lost(tmp_path):
    """Whatever code swallows the first, a later one ends the process."""
    with started([sys.executable, "-c", SWALLOWED], cwd=tmp_path, **PIPES) as process:
        assert _line(process) == "here\n"
        process.send_signal(signal.SIGINT)
        assert _line(process) == "swallowed\n"
        deadline = time.monotonic() + processes.GUARD
        while process.poll() is None and time.monotonic() < deadline:
            process.send_signal(signal.SIGINT)
            time.sleep(0.2)
        assert process.wait(processes.GUARD) == 130


def _killed(miniature, folder, generator, number):
    """A command that a signal hits at a random moment: what it left must be whole."""
    arguments = ("gen", "rain", "-m", miniature, "-o", "a.wav", "--preview", "p.wav", "--seconds", 0.3, "--force", "-q")
    with started([COMMAND, *arguments], cwd=folder, **PIPES) as process:
        time.sleep(generator.uniform(0, 2))
        process.send_signal(number)
        _, stderr = process.communicate(timeout=processes.GUARD)
    for name in ("a.wav", "p.wav"):
        if (folder / name).exists():
            soundfile.read(folder / name)
    return process.returncode, stderr


def _kills(miniature, folder, times):
    generator = random.Random(5)
    for _ in range(times):
        number = generator.choice([*NUMBERS, signal.SIGKILL])
        code, stderr = _killed(miniature, folder, generator, number)
        if number == signal.SIGKILL:
            assert code in (0, -signal.SIGKILL)
            continue
        # Before Python has started, the signal does what it does to every program.
        assert (code, stderr) in ((0, ""), (130, "interrupted\n"), (-number, "")) or "site" in stderr, stderr
        assert not [name for name in os.listdir(folder) if PARTIAL.fullmatch(name)] or code == -number
    done = processes.run([COMMAND, "gen", "x", "-m", miniature, "-o", "b.wav", "--seconds", 0.1, "-q"], cwd=folder)
    assert done.returncode == 0
    assert set(os.listdir(folder)) <= {"a.wav", "p.wav", "b.wav"}


def test_kills_at_random_moments(miniature, tmp_path):
    _kills(miniature, tmp_path, 4)


@pytest.mark.slow
def test_many_kills_at_random_moments(miniature, tmp_path):
    _kills(miniature, tmp_path, 60)


WRITER = """
import sys
from pathlib import Path
from sao_onnx import writing
def wait(*_):
    print("here", flush=True)
    sys.stdin.read()
writing.os.fsync = wait
writing.write_whole(Path("a.txt"), b"theirs")
"""


def test_what_was_left_is_removed_and_what_is_written_is_not(tmp_path):
    (tmp_path / ".sao-onnx-notes.partial").touch()
    (tmp_path / ".a.wav.0a1b2c3d.partial").touch()
    with started([sys.executable, "-c", WRITER], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert _line(process) == b"here\n"
        (alive,) = [name for name in os.listdir(tmp_path) if PARTIAL.fullmatch(name)]
        write_whole(tmp_path / "b.txt", b"ours")
        assert (tmp_path / alive).read_bytes() == b"theirs"
        process.kill()
        process.wait()
        assert (tmp_path / alive).exists()
        write_whole(tmp_path / "c.txt", b"ours")
    assert sorted(os.listdir(tmp_path)) == [".a.wav.0a1b2c3d.partial", ".sao-onnx-notes.partial", "b.txt", "c.txt"]


def test_a_partial_that_was_taken_for_abandoned_is_begun_anew(tmp_path, monkeypatch):
    """Between its making and its lock, another program may see it."""
    locks = pytest.importorskip("fcntl")
    lock = locks.flock
    seen: list[Path] = []

    def late(stream, how):
        if not seen:
            seen.extend(tmp_path.iterdir())
            writing.remove_abandoned(tmp_path)
            assert not seen[0].exists()
        lock(stream, how)

    monkeypatch.setattr(locks, "flock", late)
    write_whole(tmp_path / "a.txt", b"ours")
    assert (tmp_path / "a.txt").read_bytes() == b"ours"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_without_locks(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("no locks available")

    monkeypatch.setattr(pytest.importorskip("fcntl"), "flock", refuse)
    left = tmp_path / ".sao-onnx-0123456789abcdef.partial"
    left.touch()
    write_whole(tmp_path / "a.txt", b"ours")
    assert sorted(os.listdir(tmp_path)) == [left.name, "a.txt"]


def test_unfinished_files_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "_beginning", threading.Lock())
    with writing._partial(tmp_path) as (stream, partial):
        stream.write(b"half")
        remove_unfinished()
        assert not partial.exists()
        assert not writing._beginning.acquire(blocking=False)
    assert os.listdir(tmp_path) == []


def test_the_name_of_a_partial_is_short(tmp_path):
    with writing._partial(tmp_path) as (_, partial):
        assert PARTIAL.fullmatch(partial.name)
        assert Path(partial).parent == tmp_path
    assert len(partial.name) < 40
