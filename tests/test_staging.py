"""The folder in which a bundle is built: killed conversions, two at once, and readers while a bundle is replaced."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from sao_onnx.bundle.bundle import open_bundle
from sao_onnx.bundle.manifest_json import safe_path
from sao_onnx.bundle.prompts import LARGEST, PROMPTS
from sao_onnx.locks import lock
from sao_onnx_convert.bundle import staging
from sao_onnx_convert.bundle.lock import held
from sao_onnx_convert.bundle.staging import abandon, remove_leftovers, staged, staging_folder
from sao_onnx_convert.bundle.writer import copy_prompts, license_name, write_manifest
from sao_onnx_convert.errors import ConversionError, TargetExistsError
from sao_onnx_convert.source.source import Folder
from tests import processes

BUILDER = """
import sys
from pathlib import Path
from sao_onnx_convert.bundle.writer import license_name, write_manifest
from sao_onnx_convert.bundle.staging import staged
with staged(Path(sys.argv[1]), force=True) as folder:
    (folder / "weights").write_bytes(b"w" * 1000)
    print("building", flush=True)
    sys.stdin.read()
"""


def _build(bundle: Path, folder: Path, number: int = 0) -> None:
    """A bundle that differs from others by a number in its manifest."""
    shutil.copytree(bundle, folder, dirs_exist_ok=True)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"tools": {"number": str(number)}}))


def _leftover(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "weights").write_bytes(b"w")


def test_a_new_bundle(miniature, tmp_path):
    with staged(tmp_path / "deep" / "new", False) as folder:
        assert folder == staging_folder(tmp_path / "deep" / "new")
        _build(miniature, folder)
    assert os.listdir(tmp_path / "deep") == ["new"]
    assert open_bundle(tmp_path / "deep" / "new").manifest.tools == {"number": "0"}


def test_what_was_killed_is_removed_by_the_next(bundle):
    """And nothing else that is there."""
    parent = bundle.parent
    ours = (".bundle.1.partial", ".bundle.999999.partial", ".bundle.retired")
    others = (
        "bundle.partial",
        ".bundle.x.partial",
        ".bundle.1.partial.more",
        ".bundle.b.1.partial",
        ".other.1.partial",
        ".other.retired",
    )
    for name in (*ours, *others):
        _leftover(parent / name)
    (parent / ".bundle.lock").touch()
    (parent / ".bundle.5.partial").write_text("a file")
    (parent / ".bundle.6.partial").symlink_to(parent / "bundle.partial")
    remove_leftovers(bundle)
    assert sorted(os.listdir(parent)) == sorted((*others, "bundle", ".bundle.5.partial", ".bundle.6.partial"))
    assert os.listdir(parent / "bundle.partial") == ["weights"]
    assert open_bundle(bundle)


def test_leftovers_count_before_the_space_on_the_disk_is_looked_at(checkpoint, tmp_path, monkeypatch):
    from sao_onnx_convert.convert import convert

    _leftover(tmp_path / ".bundle.1.partial")

    class LookedError(Exception):
        pass

    def look(needs):
        raise LookedError(os.listdir(tmp_path))

    monkeypatch.setitem(convert.__globals__, "require_space", look)
    with pytest.raises(LookedError) as caught:
        convert(checkpoint, checkpoint / "t5", tmp_path / "bundle")
    assert caught.value.args == ([],)


def test_a_conversion_that_is_running_is_left_alone(bundle):
    """Whoever comes second is refused at once; when the first is killed, the next removes what it left."""
    command = [sys.executable, "-c", BUILDER, bundle]
    with processes.started(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "building\n"
        (building,) = bundle.parent.glob(".bundle.*.partial")
        for attempt in (lambda: remove_leftovers(bundle), lambda: staged(bundle, True).__enter__()):
            with pytest.raises(ConversionError, match=r"another conversion is writing .*bundle; wait for its end"):
                attempt()
        assert (building / "weights").stat().st_size == 1000
        with staged(bundle.parent / "other", True) as folder:
            folder.joinpath("x").touch()
        process.kill()
        process.wait(processes.GUARD)
        assert building.exists()
        remove_leftovers(bundle)
        assert sorted(os.listdir(bundle.parent)) == ["bundle", "other"]


def test_two_threads_are_two_conversions(bundle):
    with staged(bundle, True) as folder, pytest.raises(ConversionError, match="another conversion"):
        staged(bundle, True).__enter__()
    assert not folder.exists()
    # The first one has ended with nothing in its folder, which took the place.
    assert os.listdir(bundle.parent) == ["bundle"]


def test_a_reader_never_misses_a_bundle_that_is_replaced(bundle):
    """Nor gets half of one and half of the other."""
    original = bundle.parent / "original"
    shutil.copytree(bundle, original)
    ended = threading.Event()
    seen: set[str] = set()
    problems: list[Exception] = []

    def read():
        while not ended.is_set():
            try:
                opened = open_bundle(bundle)
                seen.add(opened.manifest.tools.get("number", "first"))
            except Exception as error:  # noqa: BLE001
                problems.append(error)
                return

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for number in range(30):
        with staged(bundle, True) as folder:
            _build(original, folder, number)
    ended.set()
    for reader in readers:
        reader.join()
    assert problems == []
    assert len(seen) > 1
    assert sorted(os.listdir(bundle.parent)) == ["bundle", "original"]


@pytest.mark.parametrize("failing", [1, 2])
@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), KeyboardInterrupt()])
def test_the_old_bundle_stays_if_the_new_one_cannot_take_its_place(bundle, monkeypatch, failing, error):
    rename, count = Path.rename, 0

    def fail(path, target):
        nonlocal count
        count += 1
        if count == failing:
            raise error
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises((ConversionError, KeyboardInterrupt)), staged(bundle, True) as folder:
        _build(bundle, folder, 1)
    assert "number" not in open_bundle(bundle).manifest.tools
    assert os.listdir(bundle.parent) == ["bundle"]


def test_a_kill_between_the_two_renamings(bundle):
    """The old bundle comes back when anybody converts to its place again."""
    bundle.rename(bundle.with_name(".bundle.retired"))
    _leftover(bundle.with_name(".bundle.7.partial"))
    remove_leftovers(bundle)
    assert open_bundle(bundle)
    assert os.listdir(bundle.parent) == ["bundle"]


def test_a_link_is_kept_and_what_it_points_to_is_replaced(bundle, tmp_path):
    link = tmp_path / "elsewhere" / "link"
    link.parent.mkdir()
    link.symlink_to(bundle)
    with staged(link, True) as folder:
        assert folder.parent == bundle.parent
        _build(bundle, folder, 5)
    assert link.is_symlink()
    assert open_bundle(link).manifest.tools == open_bundle(bundle).manifest.tools == {"number": "5"}
    assert sorted(os.listdir(tmp_path)) == ["bundle", "elsewhere"]


def test_refusals(bundle, tmp_path):
    with pytest.raises(TargetExistsError, match="use --force"), staged(bundle, False):
        pass
    (tmp_path / "file").touch()
    with pytest.raises(TargetExistsError, match="is not a bundle"), staged(tmp_path / "file", True):
        pass
    for name in ("a\0b", "x" * 300, "file/below"):
        with pytest.raises(ConversionError, match="cannot be written"), staged(tmp_path / name, True):
            pass
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(ConversionError), staged(tmp_path / "circle", True):
        pass
    assert sorted(os.listdir(tmp_path)) == ["bundle", "circle", "file"]


def test_errors_of_the_block_are_its_own(tmp_path):
    class OursError(ConversionError, OSError):
        pass

    with pytest.raises(OursError, match="the hub is gone"), staged(tmp_path / "new", False):
        raise OursError("the hub is gone")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("error", [RuntimeError("of torch"), ValueError("of torch"), MemoryError()])
def test_what_is_no_trouble_with_files_is_not_called_so(tmp_path, error):
    with pytest.raises(type(error)), staged(tmp_path / "new", False):
        raise error
    assert os.listdir(tmp_path) == []


def test_names_of_licences():
    """None makes a bundle that no engine opens, after all the work."""
    assert license_name("a/LICENSE.md", ["tokenizer.json"]) == "LICENSE.md"
    taken = {"tokenizer.json"}
    for path in ("LICENSE", "LICENSE ", "License", "NOTICE:old", "COPYING\n", "a/LICENSE", "LICENSE\udcff"):
        taken.add(license_name(path, taken))
    assert len(taken) == len({name.casefold() for name in taken}) == 8
    assert all(safe_path(name) for name in taken)


def test_a_manifest_of_a_folder_whose_name_is_no_text(bundle):
    manifest = open_bundle(bundle).manifest
    write_manifest(bundle, replace(manifest, model=replace(manifest.model, source="drums-\udcff")))
    assert open_bundle(bundle).manifest.model.source == "drums-?"


def test_where_there_are_no_locks_nothing_of_others_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr("sao_onnx_convert.bundle.lock.lock", lambda descriptor: False)
    _leftover(tmp_path / ".new.1.partial")
    with staged(tmp_path / "new", False) as folder:
        (folder / "x").touch()
    assert sorted(os.listdir(tmp_path)) == [".new.1.partial", "new"]


def test_a_lock_whose_file_was_removed_is_taken_anew(tmp_path, monkeypatch):
    """Who waits at a file that its holder removes must not hold another lock than who comes later."""
    path, take = tmp_path / "lock", lock
    attempts = []

    def removed_meanwhile(descriptor):
        attempts.append(descriptor)
        if len(attempts) == 1:
            path.unlink()
        return take(descriptor)

    monkeypatch.setattr("sao_onnx_convert.bundle.lock.lock", removed_meanwhile)
    with held(path) as mine:
        assert mine
        assert len(attempts) == 2
        with pytest.raises(BlockingIOError), held(path):
            pass
        assert path.exists()
    assert not path.exists()


ABANDONS = """
import sys, threading
from pathlib import Path
from sao_onnx_convert.bundle.writer import license_name, write_manifest
from sao_onnx_convert.bundle.staging import abandon, staged
target, begun = Path(sys.argv[1]), threading.Event()
def build():
    with staged(target, force=True) as folder:
        (folder / "weights").write_bytes(b"w")
        begun.set()
        threading.Event().wait()
threading.Thread(target=build, daemon=True).start()
begun.wait()
abandon(target)
import os
os._exit(0)
"""


def test_a_process_that_gives_up_leaves_nothing(bundle):
    processes.succeed([sys.executable, "-c", ABANDONS, bundle])
    assert os.listdir(bundle.parent) == ["bundle"]
    assert open_bundle(bundle)


def test_giving_up_what_others_build_leaves_it_alone(bundle, monkeypatch):
    monkeypatch.setattr(staging, "_renaming", threading.Lock())
    _leftover(bundle.with_name(".bundle.1.partial"))
    abandon(bundle)
    assert sorted(os.listdir(bundle.parent)) == [".bundle.1.partial", "bundle"]


def test_prompts_of_a_checkpoint(tmp_path):
    checkpoint, target = tmp_path / "checkpoint", tmp_path / "bundle"
    notes: list[str] = []
    dice = {"version": 1, "dice": {"generic": ["warm pad"], "drums": ["kick"], "instrumental": []}}
    (checkpoint / "small").mkdir(parents=True)
    target.mkdir()
    assert not copy_prompts(Folder(checkpoint), target, notes.append)
    (checkpoint / PROMPTS).write_text("﻿" + json.dumps(dice), encoding="utf-8")
    assert copy_prompts(Folder(checkpoint), target, notes.append)
    assert (target / PROMPTS).read_bytes() == (checkpoint / PROMPTS).read_bytes()
    # Those beside the model come before those in the top folder.
    (checkpoint / "small" / PROMPTS).write_text(json.dumps({"prompt_bank": {"generic": ["rain"]}}))
    assert copy_prompts(Folder(checkpoint, "small/"), target, notes.append)
    assert "prompt_bank" in (target / PROMPTS).read_text()
    assert notes == []
    for text in ("{}", "\0" * (LARGEST + 1)):
        shutil.rmtree(target)
        target.mkdir()
        (checkpoint / PROMPTS).write_text(text)
        assert not copy_prompts(Folder(checkpoint), target, notes.append)
        assert list(target.iterdir()) == []
        assert "is left out: " in notes.pop()
