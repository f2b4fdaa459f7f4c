"""One vocabulary: the command line, lists and tags derive the options of a request from its fields."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from sao_onnx.audio.files import encode_audio
from sao_onnx.cli import app
from sao_onnx.engine import Engine
from sao_onnx.errors import RequestError, SaoOnnxError
from sao_onnx.option import Kind
from sao_onnx.request import Request, kinds
from sao_onnx.written_options import read_options
from tests.processes import succeed

DERIVED = {name: kind for name, kind in kinds().items() if kind.option.on_command_line}

SPELLINGS: dict[str, tuple[Any, dict[str, Any]]] = {
    "strength": (0.5, {"init_noise_level": 0.56}),
    "fade": ("0.1:1", {"fade_in": 0.1, "fade_out": 1.0}),
    "trim": ("silence", {"trim_silence": True}),
}
"""Other ways to write options: a value, and what it stands for."""


def _example(kind: Kind) -> tuple[Any, list[str], Any]:  # noqa: PLR0911  One for each kind.
    """A value other than the default: as it is written on the command line, in JSON, and as the request keeps it."""
    low, high = kind.option.minimum or 0, kind.option.maximum
    match kind.name:
        case "number":
            value = low + 1.5 if high is None else (low + 3 * high) / 4
            return value, [str(value)], value
        case "whole number":
            count = int(low) + 2
            return count, [str(count)], count
        case "choice":
            return kind.choices[-1], [kind.choices[-1]], kind.choices[-1]
        case "flag":
            return True, [], True
        case "regions":
            return [[0, 0.25], [0.5, 1]], ["0:0.25", "0.5:1"], ((0, 0.25), (0.5, 1))
        case "numbers":
            return {"seconds_total": 1.5, "bpm": 90}, ["seconds_total=1.5", "bpm=90"], {"seconds_total": 1.5, "bpm": 90}
    return "some text", ["some text"], "some text"


def _names(name: str, kind: Kind) -> list[str]:
    return [name, *kind.option.aliases]


def written_to(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def asked(miniature, monkeypatch):
    """The request that a command makes; nothing is generated."""
    found: list[Request] = []

    def taken(self, request):
        found.append(request)
        raise SaoOnnxError("taken")

    for method in ("stream", "generate"):
        monkeypatch.setattr(Engine, method, taken)
    monkeypatch.setattr(Engine, "plan", lambda self, request: None)

    def ask(*arguments: object) -> dict[str, Any]:
        found.clear()
        done = CliRunner().invoke(app, [*map(str, arguments), "-m", str(miniature)])
        assert found, done.output
        return {name: str(value) if name == "init_audio" else value for name, value in found[0].given().items()}

    return ask


@pytest.mark.parametrize(("name", "kind"), DERIVED.items(), ids=DERIVED)
def test_every_way_to_write_an_option_gives_the_same_request(asked, tmp_path, name, kind):
    value, written, expected = _example(kind)
    expected = pytest.approx(expected) if kind.name == "number" else expected
    for alias in _names(name, kind):
        flag = f"--{alias.replace('_', '-')}"
        arguments = [part for text in written for part in (flag, text)] or [flag]
        found = asked("gen", "rain", "--seed", 1, *arguments) if name != "seed" else asked("gen", "rain", *arguments)
        assert found.pop("seed", None) is not None
        assert found == ({} if name == "seed" else {name: expected})
        for key in {alias, alias.replace("_", "-")}:
            line = json.dumps({"prompt": "rain", key: value})
            assert asked("batch", written_to(tmp_path / "list.jsonl", line), "-o", tmp_path) == {name: expected}
            text = "true" if kind.name == "flag" else " ".join(written)
            rows = written_to(tmp_path / "list.csv", f"prompt,{key}\nrain,{text}\n")
            assert asked("batch", rows, "-o", tmp_path) == {name: expected}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_other_spellings_give_the_same_request(asked, tmp_path, spelling):
    value, expected = SPELLINGS[spelling]
    found = asked("gen", "rain", "--seed", 1, f"--{spelling}", value)
    assert found == {"seed": 1} | {name: pytest.approx(number) for name, number in expected.items()}
    line = json.dumps({"prompt": "rain", spelling: value})
    in_list = asked("batch", written_to(tmp_path / "list.jsonl", line), "-o", tmp_path)
    assert {"seed": 1} | in_list == found


def test_every_spelling_is_tested():
    assert {spelling.name for kind in kinds().values() for spelling in kind.option.spellings} == set(SPELLINGS)


@pytest.fixture(scope="module")
def record(engine):
    """What the tags of a clip hold."""
    return json.loads(engine.generate("rain", seconds=0.1, steps=1).provenance.to_json())["sao-onnx"]


def test_tags_give_the_same_request(record, asked, tmp_path):
    """All options at once, whether or not they fit together: that is found by the plan."""
    examples = {name: _example(kind)[2] for name, kind in DERIVED.items()}
    options = {name: value for name, value in examples.items() if kinds()[name].option.in_tags}
    tags = {"comment": json.dumps({"sao-onnx": {**record, "options": options, "seed": 7, "init_audio": "a.wav"}})}
    (tmp_path / "a.wav").write_bytes(b"")
    (tmp_path / "b.wav").write_bytes(encode_audio(np.zeros((2, 100), np.float32), 44100, tags=tags))
    found = asked("gen", "--from", tmp_path / "b.wav", "-o", tmp_path / "c.wav")
    assert found == examples | {"seed": 7, "init_audio": str(tmp_path / "a.wav")}
    # What is given with them comes first, in whatever spelling.
    found = asked("gen", "--from", tmp_path / "b.wav", "--strength", 1, "--seed", 8, "--cfg", 2, "-o", tmp_path / "c.wav")
    assert (found["init_noise_level"], found["seed"], found["cfg_scale"]) == (1, 8, 2)


def test_names_of_today():
    """Those that people have in their scripts and lists."""
    line = {
        "seconds": "2",
        "steps": "3",
        "cfg": 2,
        "negative": "hiss",
        "init": "a.wav",
        "init-start": "0.5",
        "strength": 1,
        "keep": "0:3 8:11.5",
        "window": 5,
        "fade": "0.1:1",
        "trim": "silence",
        "mono": "yes",
        "sampler": "",
        "seed": None,
    }
    assert read_options(line) == {
        "seconds": 2.0,
        "steps": 3,
        "cfg_scale": 2.0,
        "negative_prompt": "hiss",
        "init_audio": "a.wav",
        "init_start": 0.5,
        "init_noise_level": 1.0,
        "keep": [(0, 3), (8, 11.5)],
        "window_seconds": 5.0,
        "fade_in": 0.1,
        "fade_out": 1.0,
        "trim_silence": True,
        "mono": True,
    }


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0:3 8:11.5", [(0, 3), (8, 11.5)]),
        ("0:3,8:11.5", [(0, 3), (8, 11.5)]),
        (["0:3", "8:9"], [(0, 3), (8, 9)]),
        ([[0, 3], [8, 9]], [(0, 3), (8, 9)]),
    ],
)
def test_regions(value, expected):
    assert read_options({"keep": value}) == {"keep": expected}


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"second": 1}, "there is no option 'second'; did you mean 'seconds'"),
        ({"init-audi": "a"}, "there is no option 'init-audi'; did you mean 'init_audio'"),
        ({"strenght": 1}, "did you mean 'strength'"),
        ({"latents": [0]}, "there is no option 'latents'"),
        ({"numbers": "seconds_total"}, "expected NAME=VALUE, such as seconds_total=4"),
        ({"number": ["bpm=fast"]}, "expected a number"),
        ({"numbers": 5}, "numbers is 5"),
        ({"seconds": "long"}, "seconds is 'long'; expected a number"),
        ({"seconds": True}, "seconds is True; expected a number"),
        ({"seconds": [1]}, r"seconds is \[1\]; expected a number"),
        ({"steps": "2.5"}, "steps is '2.5'; expected a whole number"),
        ({"mono": "perhaps"}, "mono is 'perhaps'; expected true or false"),
        ({"strength": 2}, "strength is 2; expected 0 .* to 1"),
        ({"strength": "much"}, "strength is 'much'; expected a number"),
        ({"fade": "slow"}, "fade is 'slow'; expected seconds, such as 0.5, or IN:OUT"),
        ({"trim": "noise"}, "trim is 'noise'; expected silence"),
        *(
            ({"keep": bad}, r"keep is .*; expected FROM:TO in seconds, such as 3:8\.5")
            for bad in ("0-3", "1:2:3", "a:b", ":3", [3])
        ),
        ({"cfg": 2, "cfg_scale": 3}, "cfg_scale is given twice, the second time as cfg_scale; give it once"),
        ({"fade_in": 1, "fade": 2}, "fade_in is given twice, the second time as fade; give it once"),
    ],
)
def test_what_cannot_be_read(written, message):
    with pytest.raises(RequestError, match=message):
        read_options(written)


def test_json_is_not_read_like_text():
    """CSV has text alone; JSON has numbers as well."""
    assert read_options({"steps": "8", "cfg": "2"}) == {"steps": 8, "cfg_scale": 2.0}
    assert read_options({"steps": 8, "cfg": 2, "strength": 1}, from_json=True) == {
        "steps": 8,
        "cfg_scale": 2.0,
        "init_noise_level": 1.0,
    }
    for name in ("steps", "cfg", "window-seconds"):
        with pytest.raises(RequestError, match=f"{name} is '8'; expected a .*number, without quotes"):
            read_options({name: "8"}, from_json=True)


def test_the_help_tells_every_option():
    shown = " ".join(CliRunner().invoke(app, ["gen", "--help"], env={"COLUMNS": "400"}).output.split())
    for name, kind in DERIVED.items():
        for alias in _names(name, kind):
            written = alias.replace("_", "-")
            assert f"--{written}" in shown or f"--[no-]{written}" in shown
        for text in (
            kind.option.help.removesuffix("."),
            kind.option.range,
            kind.option.unit,
            kind.option.shown_default,
            *kind.choices,
        ):
            assert text in shown, name
        for spelling in kind.option.spellings:
            assert f"--{spelling.name}" in shown
            assert spelling.help in shown
    for name in kinds().keys() - DERIVED.keys():
        assert f"--{name.replace('_', '-')}" not in shown


NEW = """
import dataclasses, inspect, json, sys
import sao_onnx.request as request
from sao_onnx.option import Option

swing = dataclasses.field(default=None, metadata={"option": Option("Late off-beats.", unit="percent", minimum=0, maximum=75)})
request.Request = dataclasses.make_dataclass(
    "Request", [("swing", "float | None", swing)], bases=(request.Request,), frozen=True, eq=False
)
request.kinds.cache_clear()

from typer.testing import CliRunner
from sao_onnx.cli import app
from sao_onnx.written_options import read_options
from sao_onnx.engine import Engine
from sao_onnx.request import recorded_options

assert inspect.signature(Engine.generate).parameters["swing"].annotation == "float | None"
made = request.Request.from_options("rain", read_options({"swing": "60"}))
print(CliRunner().invoke(app, ["gen", "--help"], env={"COLUMNS": "200"}).output)
refused = CliRunner().invoke(app, ["gen", "rain", "--swing", "99"])
print(json.dumps([recorded_options(made), refused.exit_code, refused.output.strip()]))
"""


def test_a_new_option_is_a_field_and_nothing_else():
    """On the command line with its help and range, in lists, in the signature and in the tags."""
    shown = succeed([sys.executable, "-c", NEW])
    assert "--swing" in shown
    assert "Late off-beats (0 to 75 percent)." in shown
    recorded, code, message = json.loads(shown.splitlines()[-1])
    assert recorded == {"swing": 60.0}
    assert (code, message) == (2, "error: swing is 99, expected 0 to 75 percent")
