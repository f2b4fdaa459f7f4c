"""Values of options from NumPy, from JSON, and of types that no option has."""

from __future__ import annotations

import enum
import json
from typing import Any

import numpy as np
import pytest

from sao_onnx.errors import RequestError
from sao_onnx.option import shown
from sao_onnx.provenance import read_provenance
from sao_onnx.request import Request, kinds
from sao_onnx.written import read_json
from tests.recordings import tones


class Level(enum.StrEnum):
    LOUD = "lufs"


SAME: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"numbers": {"seconds_total": np.float32(1.5)}}, {"numbers": {"seconds_total": 1.5}}),
    ({"numbers": {np.str_("seconds_total"): np.array(3)}}, {"numbers": {"seconds_total": 3.0}}),
    ({"keep": np.array([[0, 0.5]], np.float32)}, {"keep": ((0.0, 0.5),)}),
    ({"keep": [np.array([0, 1])]}, {"keep": ((0.0, 1.0),)}),
    ({"keep": [(np.int64(0), np.float16(0.5))]}, {"keep": ((0.0, 0.5),)}),
    ({"regenerate": (np.array([np.array(0), 1], object),)}, {"regenerate": ((0.0, 1.0),)}),
    ({"seconds": np.array(1.5)}, {"seconds": 1.5}),
    ({"seconds": np.longdouble(1.5)}, {"seconds": 1.5}),
    ({"steps": np.array(2), "seed": np.uint32(7)}, {"steps": 2, "seed": 7}),
    ({"mono": np.bool_(True), "trim_silence": np.array(True)}, {"trim_silence": True, "mono": True}),
    (
        {"sampler": np.str_("euler"), "negative_prompt": np.str_("a"), "cfg_scale": 2},
        {"sampler": "euler", "cfg_scale": 2.0, "negative_prompt": "a"},
    ),
    ({"normalize": Level.LOUD}, {"normalize": "lufs"}),
    ({"bpm": np.float32(120), "bars": np.int8(1)}, {"bpm": 120.0, "bars": 1}),
]


@pytest.mark.parametrize(("options", "expected"), SAME)
def test_numpy_s_values_are_python_s_in_a_request(options, expected):
    found = Request(np.str_("rain"), **options)
    given = found.given()
    assert json.dumps(given) == json.dumps(expected)
    types = {type(value) for value in (found.prompt, *given.values())} - {dict, tuple}
    assert types <= {str, int, float, bool}


@pytest.mark.parametrize("options", [options for options, _ in SAME])
def test_clips_of_numpy_s_values_are_saved_with_them(engine, tmp_path, options):
    initial = {"init_audio": tones(2.0)} if {"keep", "regenerate"} & options.keys() else {}
    shared = {"steps": 1} | ({} if {"bpm", "seconds"} & options.keys() else {"seconds": 1.25})
    clip = engine.generate("rain", **(shared | initial | options))
    found = read_provenance(clip.save(tmp_path / "a.wav"))
    assert found.options == json.loads(json.dumps(clip.provenance.options))
    assert options.keys() - {"seed"} <= found.options.keys()


@pytest.mark.parametrize("prompt", ["\ud800", "rain \udfff", "half a \ud83d face", "a\0b", "\0"])
def test_text_that_no_file_can_hold(engine, prompt):
    for make in (Request, engine.generate, engine.plan):
        with pytest.raises(RequestError, match=r"the prompt is .*; expected text that can be written into a file") as caught:
            make(prompt)
        assert str(caught.value).isascii()
    with pytest.raises(RequestError, match=r"negative_prompt is .*, which holds"):
        engine.generate("rain", negative_prompt=prompt, cfg_scale=2)


def test_other_text_is_kept():
    for prompt in ("", "大雨", "🌧", "line\nline", "tab\t", "\x07", "e\u0301"):
        assert Request(prompt).prompt == prompt


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"normalize": np.array(["peak", "none"])}, r"normalize is array\(.*, expected peak or lufs or none"),
        ({"normalize": np.array(["peak"])}, "normalize is array"),
        ({"sampler": ["euler"]}, r"sampler is \['euler'\], expected pingpong"),
        ({"sampler": {}}, "sampler is {}"),
        ({"numbers": np.zeros((9, 9))}, r"numbers is array\(.*\.\.\., expected numbers by the name"),
        ({"numbers": [("seconds_total", 1)]}, "numbers is"),
        ({"numbers": {"seconds_total": np.zeros(2)}}, "seconds_total is array"),
        ({"numbers": {"seconds_total": True}}, "seconds_total is True, expected a finite number"),
        ({"numbers": {"seconds_total": np.bool_(True)}}, "seconds_total is True, expected a finite number"),
        ({"seconds": np.zeros((9, 9))}, "seconds is array"),
        ({"seconds": np.array(np.nan)}, "seconds is nan"),
        ({"seconds": np.array("3")}, "seconds is '3', expected a finite number"),
        ({"seconds": 1j}, "seconds is 1j"),
        ({"seconds": np.bool_(True)}, "seconds is True"),
        ({"steps": np.float32(2)}, "steps is 2, expected a whole number"),
        ({"steps": np.bool_(True)}, "steps is True, expected a whole number"),
        ({"keep": np.array([0, 1])}, "expected pairs of numbers"),
        ({"keep": [(False, True)]}, "the edge of a region of keep is False"),
        ({"mono": np.int64(1)}, "mono is 1, expected True or False"),
        ({"mono": None}, "mono is None"),
        ({"negative_prompt": b"hiss"}, "negative_prompt is b'hiss', expected text"),
    ],
)
def test_what_is_no_value_is_one_line(options, message):
    with pytest.raises(RequestError, match=message) as caught:
        Request("rain", **options)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_a_name_that_is_no_text():
    options: Any = {3: 1}
    with pytest.raises(RequestError, match="there is no option '3'"):
        Request.from_options("rain", options)


def test_what_is_shown_of_a_value_is_one_line():
    assert shown(np.zeros((2, 2))) == "array([[0., 0.], [0., 0.]])"
    assert shown("a  b\n") == r"'a  b\n'"


JSON_REFUSED = [
    ("seconds", '"8"', "expected a number, without quotes"),
    ("steps", '"8"', "expected a whole number, without quotes"),
    ("seed", "[8]", "expected a whole number, without quotes"),
    ("mono", '"true"', "expected true or false, without quotes"),
    ("mono", "1", "expected true or false, without quotes"),
    ("seconds", "true", "expected a number"),
    ("seconds", "{}", "expected a number, without quotes"),
    ("negative_prompt", "5", "expected text, in quotes"),
    ("sampler", "true", "expected text, in quotes"),
    ("init_audio", "7", "expected the path of a file, in quotes"),
    ("numbers", '{"seconds_total": "3"}', "expected numbers, without quotes"),
    ("keep", '[["0", "3"]]', "expected numbers, without quotes"),
    ("keep", "[[true, 3]]", "expected FROM:TO"),
    ("keep", "[[0, 3, 4]]", "expected FROM:TO"),
    ("keep", "[null]", "expected FROM:TO"),
    ("numbers", "[[1]]", "expected NAME=VALUE"),
]


@pytest.mark.parametrize(("name", "text", "message"), JSON_REFUSED)
def test_json_tells_numbers_from_text(name, text, message):
    with pytest.raises(ValueError, match=message):
        kinds()[name].read_json(json.loads(text))


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("seconds", "8", 8.0),
        ("steps", "8", 8),
        ("mono", "false", False),
        ("sampler", '"euler"', "euler"),
        ("negative_prompt", '"5"', "5"),
        ("numbers", '{"seconds_total": 3}', {"seconds_total": 3.0}),
        ("numbers", '"seconds_total=3"', {"seconds_total": 3.0}),
        ("keep", "[[0, 3], [8, 9]]", [(0, 3), (8, 9)]),
        ("keep", '["0:3", "8:9"]', [(0, 3), (8, 9)]),
        ("keep", '"0:3 8:9"', [(0, 3), (8, 9)]),
    ],
)
def test_json_of_every_kind(name, text, expected):
    assert kinds()[name].read_json(json.loads(text)) == expected


def test_what_is_a_number_already_is_checked_with_the_request():
    assert read_json("whole number", 2.5) == 2.5
    assert read_json("whole number", True) is True
