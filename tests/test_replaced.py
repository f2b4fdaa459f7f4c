"""Bundles that are replaced or removed while they are in use."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import sao_onnx
from sao_onnx.bundle import bundle as module
from sao_onnx.bundle.bundle import Bundle, open_bundle
from sao_onnx.bundle.checked import digest
from sao_onnx.errors import BundleError


def _open(bundle: Bundle, names: Sequence[str], meanwhile: Callable[[], object]) -> None:
    with bundle.opening(names):
        meanwhile()


def _another(bundle: Path, to: Path) -> Path:
    """A bundle of the same files, with another manifest."""
    shutil.copytree(bundle, to)
    manifest = json.loads((to / "manifest.json").read_text())
    (to / "manifest.json").write_text(json.dumps(manifest | {"tools": {"sao-onnx": "0"}}))
    return to


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("after", ["load", "conditioner"])
@pytest.mark.parametrize("how", ["replaced", "removed"])
def test_a_bundle_that_is_replaced_while_it_is_used(bundle, tmp_path, verify, after, how):
    """No clip is made with half of one and half of the other."""
    other = _another(bundle, tmp_path / "other")
    engine = sao_onnx.load(bundle, precision="fp32", threads=1, verify=verify)
    events = engine.stream("kick", seconds=0.1, steps=1, seed=1)
    if after == "conditioner":
        next(events)
    bundle.rename(tmp_path / "old")
    if how == "replaced":
        other.rename(bundle)
    with pytest.raises(BundleError, match="was replaced or removed while it was in use; load it again"):
        list(events)


def test_a_bundle_that_is_replaced_while_a_graph_is_opened(bundle, tmp_path):
    other = _another(bundle, tmp_path / "other")
    opened = open_bundle(bundle)
    names = opened.stage_files("denoiser", "fp32")

    def replace():
        bundle.rename(tmp_path / "old")
        other.rename(bundle)

    with pytest.raises(BundleError, match="was replaced"):
        _open(opened, names, replace)

    def remove():
        shutil.rmtree(bundle)
        (bundle / names[0]).read_bytes()

    with pytest.raises(BundleError, match="was replaced"):
        _open(open_bundle(bundle), names, remove)


def test_files_that_are_exchanged_under_the_same_manifest(bundle, tmp_path):
    opened = open_bundle(bundle)
    name = opened.stage_files("denoiser", "fp32")[0]

    def exchange():
        (bundle / name).write_bytes(b"0" * (bundle / name).stat().st_size)

    with pytest.raises(BundleError, match="was replaced"):
        _open(opened, [name], exchange)


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("kind", ["short", "FIFO", "folder", "gone"])
def test_files_that_are_damaged_after_the_bundle_was_opened(bundle, verify, kind):
    engine = sao_onnx.load(bundle, precision="fp32", threads=1, verify=verify)
    path = bundle / "fp32" / "dit.onnx.data"
    data = path.read_bytes()
    path.unlink()
    if kind == "short":
        path.write_bytes(data[:-1])
    elif kind == "folder":
        path.mkdir()
    elif kind == "FIFO" and hasattr(os, "mkfifo"):
        os.mkfifo(path)
    with pytest.raises(BundleError, match=r"bytes, expected|cannot be read: No such file"):
        engine.generate("kick", seconds=0.1, steps=1, seed=1)


def test_clips_do_not_end_when_all_is_loaded(bundle, tmp_path):
    engine = sao_onnx.load(bundle, precision="fp32", threads=1)
    first = engine.generate("kick", seconds=0.1, steps=1, seed=1)
    bundle.rename(tmp_path / "old")
    assert (engine.generate("kick", seconds=0.1, steps=1, seed=1).samples == first.samples).all()


def test_a_bundle_that_is_away_for_a_moment_is_waited_for(bundle, monkeypatch):
    """As between the two renamings of `convert --force`."""
    retired = bundle.with_name(f".{bundle.name}.retired")
    bundle.rename(retired)
    slept = []

    def arrive(seconds):
        slept.append(seconds)
        retired.rename(bundle)

    monkeypatch.setattr(time, "sleep", arrive)
    assert open_bundle(bundle).manifest.model.name == "miniature"
    assert len(slept) == 1


def test_a_bundle_whose_conversion_was_killed_at_the_worst_moment(bundle, monkeypatch):
    monkeypatch.setattr("sao_onnx.bundle.bundle.PATIENCE", 0.0)
    bundle.rename(bundle.with_name(f".{bundle.name}.retired"))
    with pytest.raises(BundleError, match=r"run it again, or rename .*\.bundle\.retired"):
        open_bundle(bundle)


def test_a_bundle_that_is_replaced_while_its_files_are_looked_at(bundle, tmp_path, monkeypatch):
    """The old manifest does not fit the new files, which is no damage."""
    other = _another(bundle, tmp_path / "other")
    (other / "LICENSE").write_text("longer than before")
    manifest = json.loads((other / "manifest.json").read_text())
    entry = next(file for file in manifest["files"] if file["path"] == "LICENSE")
    entry |= {"size": (other / "LICENSE").stat().st_size, "sha256": digest(other / "LICENSE")}
    (other / "manifest.json").write_text(json.dumps(manifest))
    read, times = module.read_manifest, []

    def replaced_after_the_first(folder):
        found = read(folder)
        times.append(found)
        if len(times) == 1:
            bundle.rename(tmp_path / "old")
            other.rename(bundle)
        return found

    monkeypatch.setattr(module, "read_manifest", replaced_after_the_first)
    assert open_bundle(bundle).manifest.tools == {"sao-onnx": "0"}
