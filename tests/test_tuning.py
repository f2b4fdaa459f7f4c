"""What `sao-onnx tune` measures, keeps and changes."""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import sao_onnx
from sao_onnx.bundle.bundle import open_bundle
from sao_onnx.errors import AudioFileError, FileError
from sao_onnx.running import tuning_search as tune_module
from sao_onnx.running.tuning_search import tune
from sao_onnx.runtime.tuning import Tuning, default_tuning, reset_tuning, save_tuning, saved_tuning, tuning_path


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr("platformdirs.user_state_path", lambda name: tmp_path / "state" / name)
    return tmp_path / "state"


@pytest.fixture
def opened(miniature):
    return open_bundle(miniature)


def test_the_default_is_the_manifests(opened, processors):
    processors(4)
    tuning = default_tuning(opened, "int8", 3)
    assert tuning == Tuning(3, 3, tuple(segment.tile for segment in opened.manifest.decoder[1:]), "int8", "int8")
    assert saved_tuning(opened) is None
    assert sao_onnx.load(opened.folder, threads=3).tuning == tuning


def test_what_is_kept_is_used(opened, processors):
    processors(2)
    tuning = Tuning(1, 2, (3, 1), "fp32", "int8", {"session.intra_op.allow_spinning": "0"})
    assert save_tuning(opened, tuning) == tuning_path(opened)
    assert saved_tuning(opened) == tuning
    engine = sao_onnx.load(opened.folder)
    assert engine.tuning == tuning
    assert engine.threads == 1
    assert os.listdir(tuning_path(opened).parent) == [tuning_path(opened).name]
    # Whoever asks for something else gets it.
    assert sao_onnx.load(opened.folder, tuned=False).tuning.tiles != (3, 1)
    assert sao_onnx.load(opened.folder, precision="int8").tuning.dit == "int8"
    assert sao_onnx.load(opened.folder, threads=2).threads == 2
    assert reset_tuning(opened)
    assert not reset_tuning(opened)
    assert sao_onnx.load(opened.folder).tuning == default_tuning(opened, "int8", sao_onnx.load(opened.folder).threads)


def _clip(bundle, tuning=True):
    return sao_onnx.load(bundle.folder, tuned=tuning).generate("rain", seed=5, normalize="none")


def test_threads_and_tiles_do_not_change_the_clip(opened):
    plain = _clip(opened, default_tuning(opened, "fp32", 2))
    save_tuning(opened, Tuning(1, 1, (1, 5), "fp32", "fp32"))
    tuned = _clip(opened)
    np.testing.assert_allclose(tuned.latents, plain.latents, atol=1e-4)
    np.testing.assert_allclose(tuned.samples, plain.samples, atol=1e-4)


def test_each_part_runs_in_its_own_precision(opened):
    plain = _clip(opened, default_tuning(opened, "fp32", 2))
    save_tuning(opened, Tuning(2, 2, (4, 2), "fp32", "int8"))
    decoder = _clip(opened)
    np.testing.assert_allclose(decoder.latents, plain.latents, atol=1e-4)
    assert not np.allclose(decoder.samples, plain.samples, atol=1e-4)
    save_tuning(opened, Tuning(2, 2, (4, 2), "int8", "fp32"))
    assert not np.allclose(_clip(opened).latents, plain.latents, atol=1e-4)


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda data: "not json", "Expecting value"),
        (lambda data: json.dumps(data | {"unknown": 1}), "unknown field"),
        (lambda data: json.dumps(data | {"threads": 0}), "at least 1"),
        (lambda data: json.dumps(data | {"tiles": [1]}), "1 tiles, expected 2"),
        (lambda data: json.dumps(data | {"dit": "int4"}), "found 'int4'"),
        (lambda data: json.dumps(data | {"threads": 10**9}), "at most 1024"),
        (lambda data: json.dumps(data | {"tiles": [10**400, 1]}), "at most 1024"),
        (lambda data: json.dumps(data | {"options": {"session.x": "1"}}), "no search tries the option"),
        (lambda data: json.dumps(data | {"options": {"mlas.disable_kleidiai": "x"}}), "no search tries the option"),
        (lambda data: json.dumps(data | {"threads": float("inf")}), "is not a number"),
        (lambda data: "[" * 5000, "nested"),
        (lambda data: json.dumps(data) + " " * 20_000, "larger than expected"),
    ],
)
def test_a_file_that_cannot_be_used_is_ignored(opened, damage, problem, caplog):
    path = save_tuning(opened, default_tuning(opened, "int8", 2))
    path.write_text(damage(json.loads(path.read_text())))
    with caplog.at_level("INFO", logger="sao_onnx"):
        assert saved_tuning(opened) is None
    (record,) = caplog.records
    assert str(path) in record.getMessage()
    assert problem in record.getMessage()
    assert sao_onnx.load(opened.folder).generate("rain", seconds=0.1, steps=1, seed=1).samples.size


@pytest.mark.parametrize("kind", ["folder", "FIFO", "endless"])
def test_what_is_no_file_is_ignored(opened, kind):
    path = tuning_path(opened)
    path.parent.mkdir(parents=True)
    if kind == "folder":
        path.mkdir()
    elif kind == "endless":
        path.symlink_to("/dev/zero")
    elif hasattr(os, "mkfifo"):
        os.mkfifo(path)
    assert saved_tuning(opened) is None
    if kind == "folder":
        with pytest.raises(FileError, match="cannot be removed"):
            reset_tuning(opened)


def test_a_precision_that_the_bundle_lacks(opened, caplog):
    only = replace(opened, manifest=replace(opened.manifest, graphs=_in_int8(opened)))
    save_tuning(only, Tuning(1, 1, (3, 1), "fp32", "int8"))
    with caplog.at_level("INFO", logger="sao_onnx"):
        assert saved_tuning(only) is None
    assert "the bundle does not have fp32" in caplog.text


def _in_int8(bundle):
    return tuple(graph for graph in bundle.manifest.graphs if graph.precision == "int8")


def test_a_tuning_is_for_one_machine_and_one_bundle(opened, monkeypatch):
    from sao_onnx.runtime import tuning
    from sao_onnx.runtime.machine import describe_machine

    here = tuning_path(opened)
    other = replace(opened, manifest=replace(opened.manifest, tools={}))
    assert tuning_path(other) != here
    machine = replace(describe_machine(), processor="another")
    monkeypatch.setattr(tuning, "describe_machine", lambda: machine)
    assert tuning_path(opened) != here


def test_a_folder_that_cannot_be_written_to(opened, state):
    state.write_text("a file")
    with pytest.raises(FileError, match="cannot be written"):
        save_tuning(opened, default_tuning(opened, "int8", 2))


def test_an_interrupted_write_keeps_what_was_there(opened, monkeypatch):
    kept = default_tuning(opened, "int8", 2)
    path = save_tuning(opened, kept)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileError, match="No space left on device") as caught:
        save_tuning(opened, replace(kept, threads=1))
    assert not isinstance(caught.value, AudioFileError)
    assert saved_tuning(opened) == kept
    assert os.listdir(path.parent) == [path.name]


def test_tune_measures_the_real_stages(opened):
    trials = list(tune(opened, budget=math.inf))
    assert {trial.part for trial in trials} == {"dit", "decoder"}
    assert trials[0].what == "default"
    assert trials[0].better
    assert all(trial.seconds > 0 for trial in trials)
    tried = [trial.what for trial in trials]
    assert tried.count("fp32") == 2
    assert any(what.startswith("tiles") for what in tried)


def test_tune_keeps_what_is_faster_and_goes_on_from_there(opened, monkeypatch, processors):
    """With measurements that are known: fp32 and fewer workers are best, and no other tile is better by enough."""

    now = [0.0]

    def takes(seconds):
        """Something that takes so long by the clock of this test."""

        def run(*arguments):
            now[0] += seconds
            return []

        return run

    def load_denoiser(bundle, precision, factory):
        seconds = 1.0 if factory.threads == 4 else 0.5 + factory.threads
        return SimpleNamespace(prediction=lambda conditioning: takes(seconds))

    def load_decoder(bundle, tuning, factory):
        return takes(10 - 2 * (tuning.decoder == "fp32") - (4 - tuning.workers) - 0.01 * (tuning.tiles[-1] == 1))

    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    monkeypatch.setattr(tune_module, "load_denoiser", load_denoiser)
    monkeypatch.setattr(tune_module, "load_decoder", load_decoder)
    processors(4)
    best = None
    for trial in tune(opened, budget=math.inf):
        best = trial.tuning if trial.better else best
    assert best == replace(default_tuning(opened, "int8", 4), decoder="fp32", workers=2)


def test_tune_ends_with_its_budget(opened):
    trials = list(tune(opened, budget=0))
    assert [(trial.part, trial.what) for trial in trials] == [("dit", "default"), ("decoder", "default")]


def test_what_does_not_fit_is_not_tried(opened, monkeypatch):
    monkeypatch.setattr(tune_module, "estimate_peak", lambda bundle, precision: 10**15)
    assert "fp32" not in [trial.what for trial in tune(opened, budget=math.inf)]


def test_the_command(miniature, state, command):
    done = command("tune", str(miniature), "--budget", "5")
    assert done.returncode == 0, done.stderr
    assert "* dit      default" in done.stderr
    assert "kept in" in done.stdout
    shown = json.loads(command("tune", "--show", "--json", SAO_ONNX_MODEL=str(miniature)).stdout)
    assert shown["tuning"]["threads"] >= 1
    assert str(state) in shown["file"]
    assert "tuned         yes" in command("doctor", "-m", str(miniature)).stdout
    assert command("tune", str(miniature), "--reset").stderr == "the saved tuning is removed\n"
    assert "tuned         no" in command("doctor", "-m", str(miniature)).stdout
    assert command("tune", str(miniature), "--reset").stderr == "no tuning was saved\n"
    assert "nothing was found" in command("tune", str(miniature), "--show").stdout
    assert json.loads(command("tune", str(miniature), "--show", "--json").stdout)["tuning"] is None


def test_wrong_usage(miniature, tmp_path, command):
    both = command("tune", str(miniature), "--show", "--reset")
    assert both.returncode == 2
    assert "exclude each other" in both.stderr
    assert command("tune", str(tmp_path / "none")).returncode == 3
    assert command("tune", str(miniature), "--budget", "-1").returncode == 2
    ours = json.loads(command("tune", "--show", "--json", SAO_ONNX_MODEL="").stdout)
    assert ours["tuning"] is None
