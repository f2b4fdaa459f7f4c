"""Digests are compared once for a bundle, and what was found is remembered."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import sao_onnx
from sao_onnx.bundle import checked
from sao_onnx.bundle.checked import Checked, digest, record_path
from sao_onnx.errors import BundleError
from tests import processes

LONG_AGO = 1_600_000_000_000_000_000


@pytest.fixture
def read(monkeypatch) -> list[Path]:
    """The files whose digests are computed."""
    seen: list[Path] = []

    def compute(path):
        seen.append(path)
        return digest(path)

    monkeypatch.setattr(checked, "digest", compute)
    return seen


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch) -> Path:
    """The user's folder for states, which is not there yet."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert record_path().is_relative_to(tmp_path)
    return tmp_path / "state"


@pytest.fixture
def file(tmp_path) -> Path:
    """A file that was last changed long ago."""
    path = tmp_path / "weights"
    path.write_bytes(b"a" * 1000)
    os.utime(path, ns=(LONG_AGO, LONG_AGO))
    return path


def test_a_file_is_read_once_in_a_process_and_once_for_all(file, read):
    first = Checked()
    right = digest(file)
    assert first.is_right(file, right)
    assert first.is_right(file, right)
    assert Checked().is_right(file, right)
    assert read == [file]
    assert not Checked().is_right(file, "0" * 64)


@pytest.mark.parametrize("time_stays", [False, True])
def test_a_changed_file_is_read_again(file, read, time_stays):
    right = digest(file)
    assert Checked().is_right(file, right)
    file.write_bytes(b"b" * 1000)
    if time_stays:
        if sys.platform == "win32":
            pytest.skip("only the time of the last change tells here")
        os.utime(file, ns=(LONG_AGO, LONG_AGO))
    assert not Checked().is_right(file, right)


def test_another_file_in_its_place_is_read(file, read, tmp_path):
    right = digest(file)
    assert Checked().is_right(file, right)
    other = tmp_path / "other"
    other.write_bytes(b"b" * 1000)
    os.utime(other, ns=(LONG_AGO, LONG_AGO))
    other.replace(file)
    assert not Checked().is_right(file, right)


def test_a_file_that_was_changed_just_now_is_not_remembered(file, read):
    """A second change within the precision of its time would not show."""
    os.utime(file)
    right = digest(file)
    assert Checked().is_right(file, right)
    assert Checked().is_right(file, right)
    assert read == [file, file]
    assert not record_path().exists()


RECORDS = {
    "empty": b"",
    "binary": bytes(range(256)),
    "not ASCII": "é".encode("latin-1"),
    "long": b"0" * 200_000,
    "half a line": b"0123456",
    "JSON": b'{"a": 1}',
}


@pytest.mark.parametrize("content", RECORDS.values(), ids=RECORDS)
def test_a_damaged_record_means_that_files_are_read_again(file, read, content):
    record_path().parent.mkdir(parents=True)
    record_path().write_bytes(content)
    right = digest(file)
    assert Checked().is_right(file, right)
    assert not Checked().is_right(file, "0" * 64)
    # Mended by the way.
    before = len(read)
    assert Checked().is_right(file, right)
    assert len(read) == before


@pytest.mark.parametrize("place", ["a file", "a folder", "a FIFO", "read-only", "relative"])
def test_where_nothing_can_be_kept_files_are_read_again(file, read, state, place, monkeypatch, tmp_path):
    if place == "a file":
        state.write_text("in the way")
    elif place == "a folder":
        record_path().mkdir(parents=True)
    elif place == "a FIFO":
        if not hasattr(os, "mkfifo"):
            pytest.skip("there are no FIFOs here")
        record_path().parent.mkdir(parents=True)
        os.mkfifo(record_path())
    elif place == "read-only":

        def refuse(*arguments, **options):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(checked, "write_whole", refuse)
    else:
        monkeypatch.setattr(checked, "record_path", lambda: Path("~") / "state" / "checked")
        monkeypatch.chdir(tmp_path)
    right = digest(file)
    one = Checked()
    for _ in range(2):
        assert one.is_right(file, right)
        assert Checked().is_right(file, right)
    # What could not be kept, the process knows. Nobody needs the FIFO.
    assert read == ([file] if place == "a FIFO" else [file, file, file])
    assert not (tmp_path / "~").exists()


def test_only_so_many_are_remembered(tmp_path, monkeypatch):
    monkeypatch.setattr(checked, "KEPT", 3)
    for index in range(5):
        path = tmp_path / f"{index}"
        path.write_bytes(b"x")
        os.utime(path, ns=(LONG_AGO, LONG_AGO))
        assert Checked().is_right(path, digest(path))
    assert len(record_path().read_text().split()) == 3


def test_two_processes_at_once(bundle, tmp_path):
    """Neither fails, and no half-written record is left."""
    for path in bundle.rglob("*"):
        os.utime(path, ns=(LONG_AGO, LONG_AGO))
    script = (
        "import sys, sao_onnx\n"
        "sys.stdin.readline()\n"
        "sao_onnx.load(sys.argv[1], threads=1).generate('kick', seconds=0.1, steps=1, seed=1)\n"
    )
    command = [sys.executable, "-c", script, bundle]
    with processes.started(command, stdin=subprocess.PIPE) as one, processes.started(command, stdin=subprocess.PIPE) as other:
        for process in (one, other):
            assert process.stdin is not None
            process.stdin.write(b"\n")
            process.stdin.flush()
        assert one.wait(processes.GUARD) == other.wait(processes.GUARD) == 0
    assert all(len(line) == 64 for line in record_path().read_text().split())
    assert os.listdir(record_path().parent) == ["checked"]


def test_an_engine_reads_each_file_once(bundle, read, monkeypatch):
    for path in bundle.rglob("*"):
        os.utime(path, ns=(LONG_AGO, LONG_AGO))
    engine = sao_onnx.load(bundle, precision="fp32", threads=1, keep_loaded=False)
    for _ in range(2):
        engine.generate("kick", seconds=0.1, steps=1, seed=1)
    assert len(read) == len(set(read)) == 15
    sao_onnx.load(bundle, precision="fp32", threads=1).generate("kick", seconds=0.1, steps=1, seed=1)
    assert len(read) == 15


def test_the_model_in_the_package_is_checked_as_well(monkeypatch):
    monkeypatch.setattr(checked, "digest", lambda path: "0" * 64)
    with pytest.raises(BundleError, match=r"sao-tiny: .* is damaged.*install sao-onnx again"):
        sao_onnx.load(threads=1).generate("kick", seconds=0.1, steps=1)
