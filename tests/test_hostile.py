"""Whatever a user hands to the library, what comes back is a clip or a `SaoOnnxError`."""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sao_onnx
from sao_onnx.errors import RequestError, SaoOnnxError
from sao_onnx.planning.plan import Guidance, Plan, Values, Window
from sao_onnx.request import Request, kinds

SHORT: dict[str, Any] = {"seconds": 0.1, "steps": 1, "seed": 1}


class Odd:
    """Answers every question with an error."""

    def __eq__(self, other):
        raise ValueError("no")

    def __hash__(self):
        raise TypeError("no")

    def __len__(self):
        raise ValueError("no")


HOSTILE: dict[str, Any] = {
    "none": None,
    "bytes": b"\xff",
    "nan": math.nan,
    "infinity": math.inf,
    "huge": 10**400,
    "huger": 10**5000,
    "negative": -1,
    "zero": 0,
    "tiny": 1e-320,
    "large": 1e308,
    "complex": 1j,
    "fraction": Fraction(1, 3),
    "true": True,
    "text": "rain",
    "empty": "",
    "nul": "a\0b",
    "surrogate": "\ud800",
    "long": "x" * 5000,
    "list": [1, 2],
    "nested": [[1], [1, 2]],
    "pairs": [(None, None), ("a",)],
    "tuple": (1,),
    "pair": ("rain", 5),
    "dict": {"a": None},
    "numbers": {3: "x"},
    "set": {1},
    "object": object(),
    "odd": Odd(),
    "class": int,
    "generator": (i for i in range(3)),
    "lambda": len,
    "path": Path("missing"),
    "nul-path": Path("a\0b"),
    "folder": Path("/"),
    "scalar": np.float64("nan"),
    "empty-array": np.zeros((0, 0), np.float32),
    "objects": np.array([object(), None]),
    "texts": np.array(["a", "b"]),
    "times": np.array(["2020-01-01"], "datetime64[D]"),
    "complexes": np.ones((2, 9), np.complex64),
    "bools": np.ones((8, 9), bool),
    "overflowing": np.full((8, 9), 1e300),
    "nans": np.full((8, 9), np.nan, np.float32),
    "structured": np.zeros(3, [("a", "f4")]),
    "samples": (np.full((2, 9), 1e300), 44100),
    "rateless": (np.ones((2, 9), np.float32), None),
    "ragged": ([[1.0], [1.0, 2.0]], 44100),
    "fast": (np.ones((2, 9), np.float32), 10**30),
}
ONE_OF_EACH_KIND = [
    next(name for name, kind in kinds().items() if kind.name == wanted) for wanted in {k.name: 0 for k in kinds().values()}
]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def others(call) -> list[tuple[str, str]]:
    """The hostile values that a call answers with something else than a result or an error of ours."""
    found = []
    for name, value in HOSTILE.items():
        try:
            call(value)
        except SaoOnnxError:
            pass
        except Exception as error:  # noqa: BLE001 - Which of them is the question.
            found.append((name, f"{type(error).__name__}: {error}"[:100]))
    return found


@pytest.mark.filterwarnings("ignore::sao_onnx.errors.SaoOnnxWarning")
@pytest.mark.parametrize("option", ["prompt", *ONE_OF_EACH_KIND])
def test_every_kind_of_option(engine, option):
    def call(value):
        options = {**SHORT, option: value} | ({"cfg_scale": 2} if option == "negative_prompt" else {})
        planned = engine.plan(Request(options.pop("prompt", "rain"), **options))
        if option in ("prompt", "init_audio", "latents", "numbers", "negative_prompt"):
            list(engine.run(planned))

    assert others(call) == []


METHODS = {
    "decode": lambda engine, value: engine.decode(value),
    "decode-seconds": lambda engine, value: engine.decode(np.zeros((8, 2), np.float32), value),
    "plan": lambda engine, value: engine.plan(value),
    "run": lambda engine, value: engine.run(value),
    "stream": lambda engine, value: engine.stream(value),
    "astream": lambda engine, value: engine.astream(value),
    "jobs": lambda engine, value: engine.generate_many(["rain"], jobs=value),
    "seed": lambda engine, value: engine.generate_many(["rain"], **{**SHORT, "seed": value}),
    "requests": lambda engine, value: engine.generate_many(value),
    "request": lambda engine, value: next(engine.generate_many([value], **SHORT), None),
    "options": lambda engine, value: next(engine.generate_many([("rain", value)], **SHORT), None),
}


@pytest.mark.filterwarnings("ignore::sao_onnx.errors.SaoOnnxWarning")
@pytest.mark.parametrize("method", METHODS)
def test_every_argument_of_a_method(engine, method):
    assert others(lambda value: METHODS[method](engine, value)) == []


@pytest.mark.filterwarnings("ignore::sao_onnx.errors.SaoOnnxWarning")
@pytest.mark.parametrize("argument", ["model", "precision", "threads", "providers", "session_options", "tuned"])
def test_every_argument_of_load(miniature, argument):
    assert others(lambda value: sao_onnx.load(**{"model": miniature, argument: value})) == []


@pytest.mark.parametrize("field", [field.name for field in (*dataclasses.fields(Plan), *dataclasses.fields(Window))])
def test_a_plan_that_holds_anything(engine, field):
    made = plan_of if field in {known.name for known in dataclasses.fields(Plan)} else window_of
    assert others(lambda value: engine.run(made(engine, **{field: value}))) == []


def test_several_that_are_none(engine):
    for several in ("rain", b"rain", None, 3, Request("rain")):
        with pytest.raises(RequestError, match="expected several in a list"):
            engine.generate_many(several)
    short = {"seconds": 0.1, "steps": 1}
    items: tuple[Any, ...] = (("rain",), ("rain", 3), ("rain", {}, {}), 3, None, ("rain", {"secons": 1}))
    for item in items:
        clips = engine.generate_many(["rain", item], **short)
        assert next(clips).seconds == pytest.approx(0.1)
        with pytest.raises(RequestError):
            next(clips)


def test_an_engine_that_was_unloaded_goes_on(miniature):
    with sao_onnx.load(miniature) as engine:
        pass
    assert engine.generate("rain", **SHORT).samples.size


def test_less_than_a_frame(engine):
    with pytest.raises(RequestError, match="expected at least one frame of audio"):
        engine.plan(Request("rain", seconds=1e-6))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"threads": "2"}, "threads is '2', expected a whole number"),
        ({"threads": 0}, "threads is 0"),
        ({"providers": "CPUExecutionProvider"}, "expected a list of names"),
        ({"session_options": ["a"]}, "expected texts by their names"),
        ({"session_options": {"a": 1}}, "expected texts by their names"),
        ({"model": 3}, "model is 3, expected the folder of a bundle"),
    ],
)
def test_settings_of_another_type(miniature, settings, message):
    with pytest.raises(RequestError, match=message):
        sao_onnx.load(**{"model": miniature, **settings})


def plan_of(engine, **changes) -> Plan:
    return dataclasses.replace(engine.plan(Request("rain", **SHORT)), **changes)


def window_of(engine, **changes) -> Plan:
    planned = engine.plan(Request("rain", **SHORT))
    return dataclasses.replace(planned, windows=(dataclasses.replace(planned.windows[0], **changes),))


def test_a_plan_of_another_model(engine):
    other = sao_onnx.load()
    for planned, to in ((other.plan("kick"), engine), (engine.plan("kick"), other)):
        with pytest.raises(RequestError, match=r"the plan cannot be carried out: its .*; make it with `Engine\.plan`"):
            to.run(planned)
    # Without a single event: at once.
    assert list(engine.run(engine.plan(Request("rain", **SHORT))))


def test_a_plan_of_a_copy_of_the_model(engine, miniature):
    other = sao_onnx.load(miniature, precision="int8")
    assert list(other.run(engine.plan(Request("rain", **SHORT))))


def test_a_plan_that_was_changed(engine):
    most = engine.manifest.window_latents
    changes = [
        plan_of(engine, objective="rectified_flow"),
        plan_of(engine, sampler="ddim"),
        plan_of(engine, windows=()),
        plan_of(engine, ratio=256),
        plan_of(engine, latent_channels=64),
        plan_of(engine, sample_rate=48000),
        plan_of(engine, guidance=Guidance(math.nan, None)),
        plan_of(engine, guidance=Guidance(2, 3)),  # type: ignore[arg-type]
        plan_of(engine, prompt=None),
        plan_of(engine, latents=Values(np.zeros((3, 4), np.float32))),
        plan_of(engine, latents=Values(np.full((8, 4), np.nan, np.float32))),
        plan_of(engine, recording=Values(np.zeros((1, 4), np.float32))),
        plan_of(engine, recording=Values(np.zeros((2, 4)))),  # type: ignore[arg-type]
        plan_of(engine, finish=dataclasses.replace(plan_of(engine).finish, fade_in=math.inf)),
        plan_of(engine, finish=dataclasses.replace(plan_of(engine).finish, normalize="loud")),  # type: ignore[arg-type]
        plan_of(engine, recorded=3),
        plan_of(engine, initial_name=3),
        window_of(engine, seed=-1),
        window_of(engine, seed=2**32),
        window_of(engine, start=1),
        window_of(engine, frames=0),
        window_of(engine, frames=10**9),
        window_of(engine, decoded=1),
        window_of(engine, tail=5),
        window_of(engine, latent_count=most + 1),
        window_of(engine, latent_count=0),
        window_of(engine, sigmas=()),
        window_of(engine, sigmas=(1.0,)),
        window_of(engine, sigmas=(1.0, math.nan, 0.0)),
        window_of(engine, sigmas=(0.5, 1.0, 0.0)),
        window_of(engine, sigmas=(1.0, 0.5)),
        window_of(engine, sigmas=(2.0, 0.0)),
        window_of(engine, numbers={}),
        window_of(engine, numbers={"bpm": 120.0}),
        window_of(engine, numbers={"seconds_total": math.nan}),
        window_of(engine, kept=((3.0, 1.0),)),
    ]
    for planned in changes:
        with pytest.raises(RequestError, match="the plan cannot be carried out"):
            engine.run(planned)
