"""The request: every option declared once; types, ranges and names are checked when it is made."""

from __future__ import annotations

import dataclasses
import inspect
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sao_onnx.engine import Engine
from sao_onnx.errors import RequestError
from sao_onnx.request import MAX_SEED, Options, Request, kinds, random_seed

NAN, INF = float("nan"), float("inf")
FIELDS = dataclasses.fields(Request)[1:]


@pytest.mark.parametrize("method", [Engine.generate, Engine.stream])
def test_the_signature_shows_every_option(method):
    """To editors, notebooks and `help`."""
    parameters = inspect.signature(method).parameters
    assert list(parameters) == ["self", "prompt", *(field.name for field in FIELDS)]
    for field in FIELDS:
        parameter = parameters[field.name]
        assert parameter.kind is parameter.KEYWORD_ONLY
        assert parameter.default is field.default
        assert parameter.annotation == field.type


def test_type_checkers_see_every_option():
    found = {name: annotation.__forward_arg__ for name, annotation in Options.__annotations__.items()}
    assert found == {field.name: field.type for field in FIELDS}
    assert Options.__required_keys__ == set()


def test_every_option_says_what_it_is():
    for name, kind in kinds().items():
        option = kind.option
        if option.on_command_line:
            assert option.help.endswith("."), name
        for limit in (option.minimum, option.maximum):
            assert limit is None or kind.name in ("number", "whole number"), name
        if kind.name == "choice":
            assert len(kind.choices) > 1


def test_is_frozen():
    request = Request("rain", seconds=1.5)
    with pytest.raises(dataclasses.FrozenInstanceError):
        request.seconds = 2.0  # type: ignore[misc]  # On purpose.


def test_keeps_values_as_plain_python():
    values: dict[str, Any] = {"seconds": np.float32(1.5), "steps": np.int64(3), "seed": np.uint32(7)}
    request = Request("rain", keep=[(0, np.float64(1))], **values)
    assert (request.seconds, request.steps, request.seed, request.keep) == (1.5, 3, 7, ((0.0, 1.0),))
    assert [type(value) for value in (request.seconds, request.steps, request.seed)] == [float, int, int]
    assert type(Request("rain", seconds=2).seconds) is float


def test_what_is_given():
    assert Request("rain").given() == {}
    assert Request("rain", mono=False, loudness=-14, steps=None).given() == {}
    given = Request("rain", mono=True, seconds=1, numbers={"seconds_total": 2}, fade_in=0.5).given()
    assert given == {"mono": True, "seconds": 1.0, "numbers": {"seconds_total": 2.0}, "fade_in": 0.5}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seconds": 0}, "seconds is 0, expected more than 0"),
        ({"seconds": -1}, "seconds is -1"),
        ({"seconds": NAN}, "seconds is nan, expected a finite number"),
        ({"seconds": "3"}, "seconds is '3', expected a finite number"),
        ({"seconds": True}, "seconds is True, expected a finite number"),
        ({"steps": 0}, "steps is 0, expected 1 to 1000000"),
        ({"steps": 2.5}, r"steps is 2\.5, expected a whole number"),
        ({"steps": True}, "steps is True, expected a whole number"),
        ({"seed": -1}, "seed is -1, expected 0 to 4294967295"),
        ({"seed": 2**32}, "seed is 4294967296"),
        ({"seed": 1.0}, r"seed is 1\.0, expected a whole number"),
        ({"sampler": "ddim"}, "sampler is 'ddim', expected pingpong or euler or dpmpp"),
        ({"cfg_scale": NAN}, "cfg_scale is nan"),
        ({"cfg_scale": INF}, "cfg_scale is inf"),
        ({"cfg_scale": -1}, "cfg_scale is -1, expected 0 to 100"),
        ({"negative_prompt": 3}, "negative_prompt is 3, expected text"),
        ({"window_seconds": 0}, "window_seconds is 0, expected more than 0"),
        ({"window_seconds": NAN}, "window_seconds is nan"),
        ({"init_start": -1.0}, "init_start is -1, expected at least 0"),
        ({"init_noise_level": NAN}, "init_noise_level is nan"),
        ({"init_noise_level": 1.5}, r"init_noise_level is 1\.5, expected 0\.12 to 1"),
        ({"extend": 0}, "extend is 0, expected more than 0 and at most 3600 seconds"),
        ({"extend": 4000}, "extend is 4000, expected more than 0 and at most 3600 seconds"),
        ({"extend": INF}, "extend is inf, expected a finite number"),
        ({"bpm": 10}, "bpm is 10, expected 20 to 400 beats a minute"),
        ({"bpm": NAN}, "bpm is nan"),
        ({"bars": 0}, "bars is 0, expected 1 to 64"),
        ({"bars": 1.5}, r"bars is 1\.5, expected a whole number"),
        ({"beats": 17}, "beats is 17, expected 1 to 16"),
        ({"numbers": {"seconds_total": NAN}}, "seconds_total is nan"),
        ({"numbers": 3}, "numbers is 3, expected numbers by the name of their conditioner"),
        ({"normalize": "rms"}, "normalize is 'rms', expected peak or lufs or none"),
        ({"loudness": 5}, "loudness is 5, expected -70 to 0 LUFS"),
        ({"fade_in": -1}, "fade_in is -1, expected 0 to 60 seconds"),
        ({"fade_out": 61}, "fade_out is 61, expected 0 to 60 seconds"),
        ({"mono": 1}, "mono is 1, expected True or False"),
        ({"trim_silence": "yes"}, "trim_silence is 'yes', expected True or False"),
        ({"keep": [(3, 3)]}, "3 to 3 s, expected 0 or more"),
        ({"keep": [(4, 3)]}, "the end after the start"),
        ({"keep": [(-1, 3)]}, "-1 to 3 s"),
        ({"keep": [(0, NAN)]}, "the edge of a region of keep is nan, expected a finite number"),
        ({"keep": [(1,)]}, "expected pairs of numbers, from and to in seconds"),
        ({"keep": [3]}, "expected pairs of numbers"),
        ({"regenerate": [("a", "b")]}, "the edge of a region of regenerate is 'a', expected a finite number"),
        ({"keep": ["12"]}, "the edge of a region of keep is '1'"),
        ({"seconds": 10**400}, r"seconds is 1000.*\.\.\., expected a finite number"),
        ({"steps": 10**5000}, "steps is a number of thousands of digits, expected 1 to 1000000"),
        ({"seed": 10**400}, r"seed is 1000.*\.\.\., expected 0 to"),
        ({"numbers": {"bpm": 10**400}}, "bpm is 1000"),
        ({"keep": [(0, 10**400)]}, "the edge of a region of keep is 1000"),
        ({"regenerate": 3}, "regenerate is 3, expected pairs of numbers"),
    ],
)
def test_refuses_and_names_value_and_range(options, message):
    with pytest.raises(RequestError, match=message):
        Request("kick", **options)


@pytest.mark.parametrize("prompt", [None, 3, b"rain"])
def test_the_prompt_must_be_text(engine, prompt):
    with pytest.raises(RequestError, match=f"the prompt is {prompt!r}, expected text"):
        Request(prompt)
    with pytest.raises(RequestError, match="expected text"):
        engine.generate(prompt)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("secons", "seconds"), ("cfg", "cfg_scale"), ("strength", "init_noise_level"), ("init_noise", "init_noise_level")],
)
def test_an_unknown_option_suggests_the_nearest(engine, name, nearest):
    for call in (engine.generate, engine.stream, lambda prompt, **options: Request.from_options(prompt, options)):
        with pytest.raises(RequestError, match=f"there is no option '{name}'; did you mean '{nearest}'"):
            call("rain", **{name: 1})
    with pytest.raises(RequestError, match="there is no option 'xyzzy'; known: seconds, steps"):
        engine.generate("rain", xyzzy=1)


def test_errors_are_the_built_in_ones_that_fit():
    assert issubclass(RequestError, ValueError)


def test_seeds_that_nobody_chose_differ_and_fit():
    seeds = {random_seed() for _ in range(20)}
    assert len(seeds) > 15
    assert all(0 <= seed <= MAX_SEED for seed in seeds)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ({"trim": False}, {"full_window": True}, "trim=False is now full_window=True"),
        ({"trim": True}, {}, "trim=False is now full_window=True"),
        ({"normalize": False}, {"normalize": "none"}, 'normalize=False is now normalize="none"'),
        ({"normalize": True}, {"normalize": "peak"}, 'normalize=True is now normalize="peak"'),
    ],
)
def test_options_of_the_former_release(engine, old: dict[str, Any], new, message):
    """They go on working, with a warning about the line that uses them, which Python shows there by default."""
    options: Any = {"seconds": 0.1, "steps": 1, "seed": 1} | old
    calls = {
        "of": lambda: Request.from_options("rain", options).given(),
        "generate": lambda: engine.generate("rain", **options).provenance.options,
        "stream": lambda: list(engine.stream("rain", **options))[-1].clip.provenance.options,
        "generate_many": lambda: next(engine.generate_many(["rain"], **options)).provenance.options,
    }
    for name, call in calls.items():
        with pytest.warns(DeprecationWarning, match=f"^{message}$") as found:
            given = call()
        if name != "generate_many":  # Whose work is done by a thread.
            assert {Path(warning.filename) for warning in found} == {Path(__file__)}
        assert {key: value for key, value in given.items() if key not in ("seconds", "steps", "seed")} == new


def test_the_present_options_warn_of_nothing(engine):
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        engine.generate("rain", seconds=0.1, steps=1, full_window=True, normalize="none")
