"""Number conditioners beyond the length: from the command line, lists and HTTP to the model, in its ranges."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import sao_onnx
from sao_onnx.bundle.bundle import open_bundle
from sao_onnx.bundle.manifest import Manifest, Number
from sao_onnx.errors import RequestError
from sao_onnx.planning.planner import plan
from sao_onnx.provenance import read_provenance
from sao_onnx.request import Request
from tests.numbered import NUMBERS, write_numbered


@pytest.fixture(scope="session")
def numbered(miniature, tmp_path_factory):
    pytest.importorskip("onnx")
    return write_numbered(miniature, tmp_path_factory.mktemp("numbered") / "numbered")


@pytest.fixture(scope="module")
def manifest(miniature) -> Manifest:
    found = open_bundle(miniature).manifest
    numbers = tuple(Number(name, low, high) for name, (low, high) in NUMBERS.items())
    return replace(found, conditioning=replace(found.conditioning, numbers=(*numbers, Number("seconds_start", 0, 512))))


@pytest.fixture
def told(manifest):
    def make(prompt="kick", **options):
        return plan(manifest, Request(prompt, **options)).windows[0].numbers

    return make


def test_what_nobody_says(told):
    assert told(seconds=1.5) == {"seconds_total": 1.5, "bpm": 130, "swing": 0.5, "seconds_start": 0}


@pytest.mark.parametrize(
    ("number", "default"),
    [(Number("x", -1, 0.5), -0.25), (Number("x", -1.5e308, 1.5e308), 0), (Number("seconds_start", 3, 9), 3)],
)
def test_defaults_lie_in_the_range(number, default):
    assert number.default == default


def test_the_tempo_of_the_prompt(told):
    assert told("house, 124 BPM")["bpm"] == 124
    assert told("house, 87.5bpm, 124 bpm")["bpm"] == 87.5
    assert told("house, 900 BPM")["bpm"] == 200
    assert told("bpm 124")["bpm"] == 130
    assert told("house, 124 BPM", numbers={"bpm": 90})["bpm"] == 90
    assert told("house, 124 BPM", bpm=100)["bpm"] == 100


def test_bpm_alone_is_for_the_model_and_makes_no_loop(manifest, planned_for):
    found = planned_for(manifest, bpm=128, seconds=2)
    assert (found.prompt, found.windows[0].tail) == ("kick, 128 BPM", 0)
    assert found.windows[0].numbers["bpm"] == 128
    assert found.windows[0].frames == 2 * manifest.audio.sample_rate
    # A loop of any length, and one of bars.
    assert planned_for(manifest, bpm=128, loop=True).windows[0].numbers["bpm"] == 128
    bars = planned_for(manifest, bpm=128, bars=1).windows[0]
    assert bars.frames == round(4 * 60 / 128 * manifest.audio.sample_rate)
    assert bars.tail > 0
    assert bars.numbers["bpm"] == 128
    # Going on from a recording at a tempo.
    tone = (np.zeros((2, 44100), np.float32), 44100)
    windows = planned_for(manifest, init_audio=tone, extend=5, bpm=128).windows
    assert {window.numbers["bpm"] for window in windows} == {128}


@pytest.fixture(scope="module")
def planned_for():
    def make(manifest, **options):
        return plan(manifest, Request("kick", **options))

    return make


def test_bpm_alone_needs_a_model_that_knows_it(miniature, planned_for):
    with pytest.raises(RequestError, match="a loop needs bpm and bars"):
        planned_for(open_bundle(miniature).manifest, bpm=128)


REFUSED = [
    ({"numbers": {"tempo": 1}}, r"no number conditioner 'tempo'; it has seconds_total \(0 to 256\), bpm \(60 to 200\), swing"),
    ({"numbers": {"swing": 1.5}}, "swing is 1.5, expected 0 to 1, which is what the model knows"),
    ({"numbers": {"seconds_total": 257}}, "seconds_total is 257, expected 0 to 256"),
    ({"bpm": 300}, "bpm is 300, expected 60 to 200, .*; numbers can tell it another tempo"),
    ({"bpm": 300, "bars": 1}, "bpm is 300, expected 60 to 200"),
    ({"bars": 1, "numbers": {"bpm": 100}}, "a loop needs bpm and bars"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED)
def test_what_the_model_does_not_know(manifest, planned_for, options, message):
    with pytest.raises(RequestError, match=message):
        planned_for(manifest, **options)


def test_a_loop_at_a_tempo_beyond_the_range(manifest, planned_for):
    found = planned_for(manifest, bpm=300, bars=1, numbers={"bpm": 150})
    assert found.windows[0].numbers["bpm"] == 150
    assert found.windows[0].frames == round(4 * 60 / 300 * manifest.audio.sample_rate)


def test_numbers_change_the_clip(numbered):
    engine = sao_onnx.load(numbered, precision="fp32", threads=1)
    first, again, other, low = (
        engine.generate("kick", seed=1, steps=1, seconds=0.1, numbers=numbers).latents
        for numbers in ({"bpm": 130, "swing": 0.5}, None, {"bpm": 180}, {"swing": 0})
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3
    assert np.abs(first - low).max() > 1e-3


def test_gen_and_from(numbered, command, tmp_path):
    common = ["gen", "-m", numbered, "--steps", 1, "--seconds", 0.1, "--threads", 1]
    done = command(*common, "kick", "--seed", 5, "--number", "swing=0.25", "--bpm", 128, "-o", "a.wav")
    assert done.returncode == 0, done.stderr
    assert "the model is told" not in done.stderr
    assert read_provenance(tmp_path / "a.wav").options["numbers"] == {"swing": 0.25}
    again = command("gen", "--from", "a.wav", "-m", numbered, "--threads", 1, "-o", "b.wav")
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()
    # The other way to the same numbers; what nobody says is said.
    done = command(*common, "kick, 128 BPM", "--seed", 5, "--number", "swing=0.25", "-o", "c.wav")
    assert "the model is told bpm 128; --number NAME=VALUE" in done.stderr


def test_lists(numbered, command, tmp_path):
    lines: list[dict[str, Any]] = [
        {"prompt": "one", "numbers": {"bpm": 180, "swing": 1}, "seed": 1},
        {"prompt": "two", "number": "bpm=180 swing=1", "seed": 1},
        {"prompt": "three", "numbers": {"swing": 2}},
    ]
    (tmp_path / "list.jsonl").write_text("\n".join(json.dumps(line | {"steps": 1, "seconds": 0.1}) for line in lines))
    (tmp_path / "list.csv").write_text("prompt,steps,seconds,numbers\nfour,1,0.1,bpm=180 swing=1\nfive,1,0.1,bpm=1\n")
    for name, count in (("list.jsonl", 2), ("list.csv", 1)):
        done = command("batch", name, "-m", numbered, "-o", "out", "--threads", 1)
        assert done.returncode == 1
        assert len(done.stdout.splitlines()) == count, done.stderr
        assert "expected 0 to 1" in done.stderr or "bpm is 1, expected 60 to 200" in done.stderr
    found = [read_provenance(path).options["numbers"] for path in sorted((tmp_path / "out").glob("*.wav"))]
    assert found == [{"bpm": 180, "swing": 1}] * 3


def test_inspect_lists_them(numbered, command):
    shown = command("inspect", numbered).stdout
    assert "bpm (60 to 200), by default 130" in shown
    assert "swing (0 to 1), by default 0.5" in shown
