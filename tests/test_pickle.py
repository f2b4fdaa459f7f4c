"""What an application hands to other processes: engines, requests, plans, clips, events and errors."""

from __future__ import annotations

import copy
import dataclasses
import errno
import inspect
import multiprocessing
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sao_onnx
from sao_onnx import errors
from sao_onnx.errors import BundleError, BundleNotFoundError, MissingExtraError, SaoOnnxError
from sao_onnx.events import Finished
from sao_onnx.request import Request
from sao_onnx.runtime.tuning import Tuning
from tests.recordings import tones
from tests.test_engine import Alive

ERRORS = [value for _, value in inspect.getmembers(errors, inspect.isclass) if issubclass(value, Exception)]
SHORT: Any = {"seconds": 0.3, "steps": 2, "seed": 1}
WAYS = {"pickle": lambda thing: pickle.loads(pickle.dumps(thing)), "copy": copy.copy, "deepcopy": copy.deepcopy}


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("kind", ERRORS)
def test_every_error(kind, protocol):
    given = {MissingExtraError: ("drawing", "matplotlib", "plot")}.get(kind, ("what was found; what was expected",))
    error = kind(*given)
    error.note = "kept"
    error.add_note("kept as well")
    sent = pickle.loads(pickle.dumps(error, protocol))
    assert type(sent) is kind
    assert str(sent) == str(error)
    assert given[0] in str(sent)
    assert sent.args == error.args
    assert vars(sent) == vars(error) == {"note": "kept", "__notes__": ["kept as well"]}
    if isinstance(error, OSError):
        numbered = kind(errno.ENOSPC, "no space", "a.wav")
        sent = pickle.loads(pickle.dumps(numbered, protocol))
        assert (sent.errno, sent.strerror, sent.filename) == (numbered.errno, numbered.strerror, numbered.filename)


@pytest.mark.parametrize("way", WAYS)
def test_an_engine_is_what_it_was_loaded_with(miniature, way):
    options: Any = {
        "threads": 1,
        "providers": ["CPUExecutionProvider"],
        "session_options": {"session.intra_op.allow_spinning": "0"},
    }
    engine = sao_onnx.load(miniature, precision="fp32", keep_loaded=False, **options)
    expected = engine.generate("rain", **SHORT)
    alive = Alive()
    sent = WAYS[way](engine)
    assert alive() == set(), "graphs are opened when they are needed"
    np.testing.assert_array_equal(sent.generate("rain", **SHORT).samples, expected.samples)
    assert alive() == set(), "keep_loaded=False was lost"
    assert (sent.precision, sent.threads, sent.tuning) == (engine.precision, engine.threads, engine.tuning)
    assert sent._factory._entries == engine._factory._entries
    assert repr(sent) == repr(engine)
    assert repr(WAYS[way](sent)) == repr(engine)


def test_a_tuning_goes_along(miniature):
    tuning = Tuning(threads=1, workers=2, tiles=(8, 4), dit="fp32", decoder="int8")
    engine = sao_onnx.load(miniature, tuned=dataclasses.replace(tuning, tiles=tuning.tiles[: len(_tiles(miniature))]))
    sent = pickle.loads(pickle.dumps(engine))
    assert (sent.tuning, sent.threads, sent.precision) == (engine.tuning, 1, "int8")


def _tiles(folder):
    return sao_onnx.load(folder).tuning.tiles


def test_a_copy_is_an_engine_of_its_own(miniature):
    engine = sao_onnx.load(miniature, precision="fp32")
    engine.generate("rain", **SHORT)
    copied = copy.copy(engine)
    copied.unload()
    assert engine._stages.denoiser.loaded


def test_a_relative_path_is_found_from_another_folder(miniature, tmp_path, monkeypatch):
    shutil.copytree(miniature, tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    data = pickle.dumps(sao_onnx.load(Path("model")))
    monkeypatch.chdir("/")
    assert pickle.loads(data).bundle.folder == tmp_path / "model"


def test_a_name_is_looked_up_where_it_arrives(miniature, tmp_path, monkeypatch):
    for place in ("here", "there"):
        shutil.copytree(miniature, tmp_path / place / "mine")
    monkeypatch.setattr("sao_onnx.bundle.names.user_folder", lambda: tmp_path / "here")
    data = pickle.dumps(sao_onnx.load("mine"))
    built_in = pickle.dumps(sao_onnx.load())
    assert str(tmp_path).encode() not in data
    monkeypatch.setattr("sao_onnx.bundle.names.user_folder", lambda: tmp_path / "there")
    assert pickle.loads(data).bundle.folder == tmp_path / "there" / "mine"
    assert pickle.loads(built_in).manifest.model.name == "sao-tiny"


def test_where_the_bundle_is_missing_or_another(miniature, tmp_path):
    shutil.copytree(miniature, tmp_path / "model")
    data = pickle.dumps(sao_onnx.load(tmp_path / "model"))
    shutil.rmtree(tmp_path / "model")
    with pytest.raises(BundleNotFoundError, match="model is not a folder"):
        pickle.loads(data)
    shutil.copytree(sao_onnx.load().bundle.folder, tmp_path / "model")
    with pytest.raises(BundleError, match="is another bundle"):
        pickle.loads(data)


@pytest.mark.parametrize(
    "options",
    [
        {"mono": True},
        {"init_audio": tones(1.0), "keep": [(0, 0.1)]},
        {"latents": np.ones((8, 4), np.float32)},
        {"cfg_scale": 3},
    ],
)
def test_requests_plans_events_and_clips(engine, options):
    request = pickle.loads(pickle.dumps(Request("rain", **SHORT, **options)))
    planned = engine.plan(request)
    sent = pickle.loads(pickle.dumps(planned))
    assert sent == planned
    events = list(engine.run(sent))
    for event in events:
        other = pickle.loads(pickle.dumps(event))
        assert type(other) is type(event)
        for field in dataclasses.fields(event):
            found, expected = getattr(other, field.name), getattr(event, field.name)
            if isinstance(event, Finished) and field.name == "clip":
                assert (found.provenance, found.timings, found.seed) == (expected.provenance, expected.timings, expected.seed)
                np.testing.assert_array_equal(found.latents, expected.latents)
                found, expected = found.samples, expected.samples
            np.testing.assert_array_equal(found, expected)
    assert copy.deepcopy(request).given().keys() == request.given().keys()


def work(engine, request):
    """In another process."""
    if request is None:
        return engine.generate("rain", seconds=-1)
    return engine.generate(request)


def test_a_pool_of_processes(miniature):
    engine = sao_onnx.load(miniature, precision="fp32", threads=1)
    expected = engine.generate("rain", **SHORT)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        clip = pool.apply(work, (engine, Request("rain", **SHORT)))
        with pytest.raises(SaoOnnxError, match="seconds is -1"):
            pool.apply(work, (engine, None))
    np.testing.assert_array_equal(clip.samples, expected.samples)
    assert clip.provenance == expected.provenance
