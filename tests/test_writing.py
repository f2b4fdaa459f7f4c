"""Files are written whole or not at all."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest

from sao_onnx.errors import AudioFileError, FileError, OutputExistsError
from sao_onnx.writing import require_free, write_whole


@pytest.mark.parametrize("error", [FileError, AudioFileError])
def test_the_class_of_errors(tmp_path, error):
    for function, arguments in ((require_free, (True,)), (write_whole, (b"",))):
        with pytest.raises(FileError) as caught:
            function(tmp_path / "none" / "a.txt", *arguments, error=error)
        assert type(caught.value) is error
    assert issubclass(error, OSError)
    assert issubclass(OutputExistsError, (FileError, FileExistsError))


def test_existing_file_is_kept(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"mine")
    with pytest.raises(OutputExistsError, match="exists; choose another name"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"mine"
    write_whole(path, b"new", overwrite=True)
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_file_that_appears_meanwhile_is_kept(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    sync = os.fsync

    def appear(descriptor):
        path.write_bytes(b"theirs")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", appear)
    with pytest.raises(OutputExistsError):
        write_whole(path, b"mine")
    assert path.read_bytes() == b"theirs"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_without_hard_links(tmp_path, monkeypatch):
    """As on a memory card with FAT."""

    def refuse(self, target):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    write_whole(tmp_path / "a.txt", b"mine")
    assert (tmp_path / "a.txt").read_bytes() == b"mine"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileError, match="No space left on device"):
        write_whole(tmp_path / "a.txt", b"mine")
    assert os.listdir(tmp_path) == []


def test_no_such_folder(tmp_path):
    with pytest.raises(FileError, match="does not exist; create it first"):
        write_whole(tmp_path / "x" / "a.txt", b"")


def test_folder_as_a_file(tmp_path):
    with pytest.raises(FileError, match="is a folder"):
        write_whole(tmp_path, b"", overwrite=True)


def test_permissions_follow_the_umask(tmp_path):
    write_whole(tmp_path / "a.txt", b"x")
    (tmp_path / "b").write_bytes(b"x")
    assert (tmp_path / "a.txt").stat().st_mode == (tmp_path / "b").stat().st_mode


@pytest.mark.skipif(sys.platform == "win32", reason="no modes of files")
def test_a_file_that_is_replaced_keeps_its_mode(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    path.chmod(0o600)
    write_whole(path, b"new", overwrite=True)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"new", 0o600)


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_hidden_file_that_others_take_for_abandoned(tmp_path, monkeypatch, overwrite):
    """On a network file system whose locks do not reach other machines."""
    fsync = os.fsync
    taken: list[Path] = []

    def removed(descriptor):
        fsync(descriptor)
        if len(taken) < 2:
            taken.extend(tmp_path.glob(".sao-onnx-*.partial"))
            taken[-1].unlink()

    monkeypatch.setattr(os, "fsync", removed)
    write_whole(tmp_path / "a", b"data", overwrite=overwrite)
    assert len(taken) == 2
    assert os.listdir(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"data"
