"""Clips that are longer than the window, and loops of any length."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import soundfile

from sao_onnx.errors import RequestError
from sao_onnx.events import Conditioned, Finished
from sao_onnx.planning.planner import uses_encoder
from sao_onnx.request import Request
from tests.processes import COMMAND, succeed

RATE = 44_100


def window_of(engine) -> float:
    return engine.manifest.window_seconds


def test_a_plan_of_several_windows(engine):
    seconds = 2.6 * window_of(engine)
    plan = engine.plan(Request("rain", seconds=seconds, seed=5))
    assert len(plan.windows) > 2
    assert [window.seed for window in plan.windows] == list(range(5, 5 + len(plan.windows)))
    assert plan.windows[0].kept is None
    for before, after in itertools.pairwise(plan.windows):
        assert before.start < after.start <= before.start + before.frames
        ((begin, end),) = after.kept
        assert (begin, after.start + round(end * RATE)) == (0.0, before.start + before.frames)
    last = plan.windows[-1]
    assert last.start + last.frames == round(seconds * RATE)


def test_the_first_window_is_that_of_a_clip_of_its_own(engine):
    options = {"seed": 3, "steps": 2, "normalize": "none"}
    plain = engine.generate("rain", **options)
    seconds = 1.5 * window_of(engine)
    long = engine.generate("rain", seconds=seconds, **options)
    assert long.samples.shape == (2, round(seconds * RATE))
    # The seam is a cross-fade over the last 30 ms of what there was.
    same = np.s_[:, : engine.manifest.audio.window - round(0.03 * RATE) - 1]
    np.testing.assert_array_equal(long.samples[same], plain.samples[same])
    assert np.abs(long.samples[:, engine.manifest.audio.window :]).max() > 0


@pytest.mark.parametrize(("extra", "windows"), [(0, 1), (441, 2)])
def test_the_window_itself_is_one_window(engine, extra, windows):
    frames = engine.manifest.audio.window + extra
    plan = engine.plan(Request("rain", seconds=frames / RATE, seed=1))
    assert len(plan.windows) == windows
    assert plan.windows[-1].start + plan.windows[-1].frames == frames


def test_its_events_rise_to_the_end(engine):
    events = list(engine.stream("rain", seconds=1.5 * window_of(engine), seed=3, steps=2))
    begun = [(event.window, event.windows) for event in events if isinstance(event, Conditioned)]
    assert begun == [(index, len(begun)) for index in range(len(begun))]
    assert len(begun) > 1
    fractions = [event.fraction for event in events if not isinstance(event, Finished)]
    assert fractions == sorted(fractions)
    assert fractions[-1] == pytest.approx(1)
    assert isinstance(events[-1], Finished)


def test_a_long_clip_needs_the_encoder(engine):
    window = window_of(engine)
    needs = [uses_encoder(engine.manifest, Request("rain", seconds=seconds)) for seconds in (None, window, window + 1)]
    assert needs == [False, False, True]


@pytest.mark.parametrize(
    "options",
    [
        {"init_audio": (np.zeros((2, RATE), np.float32), RATE)},
        {"loop": True},
        {"window_seconds": 0.5},
        {"full_window": True},
        {"latents": np.zeros((64, 8), np.float32)},
    ],
    ids=lambda options: next(iter(options)),
)
def test_what_a_long_clip_has_no_room_for(engine, options):
    (name,) = options
    with pytest.raises(RequestError, match=name):
        engine.plan(Request("rain", seconds=window_of(engine) + 1, **options))


def test_the_longest_has_an_end(engine):
    with pytest.raises(RequestError, match="seconds"):
        engine.plan(Request("rain", seconds=1e7))


def test_it_is_made_again_from_its_file(tmp_path):
    first, again = tmp_path / "first.wav", tmp_path / "again.wav"
    succeed([COMMAND, "gen", "rain", "--model", "sao-tiny", "--seconds", 10, "--steps", 1, "--seed", 3, "-o", first])
    assert soundfile.info(first).frames == 10 * RATE
    succeed([COMMAND, "gen", "--from", first, "-o", again])
    assert again.read_bytes() == first.read_bytes()


@pytest.mark.parametrize("seconds", [0.4, None])
def test_a_loop_of_a_length(engine, seconds):
    """Its end goes on into its start: what follows its last frame is what was made after it."""
    options = {"seed": 2, "steps": 2, "normalize": "none"}
    loop = engine.generate("rain", loop=True, seconds=seconds, **options)
    frames = loop.samples.shape[1]
    if seconds is not None:
        assert frames == round(seconds * RATE)
    else:
        assert 0 < engine.manifest.audio.window - frames <= round(0.05 * RATE) + 1
    (window,) = engine.plan(Request("rain", loop=True, seconds=seconds, seed=2)).windows
    assert window.tail == round(0.05 * RATE)
    made = engine.decode(loop.latents)
    # The latents are decoded whole here and in part there, which rounds otherwise.
    np.testing.assert_allclose(loop.samples[:, frames - 50 :], made[:, frames - 50 : frames], atol=1e-4)
    np.testing.assert_allclose(loop.samples[:, 0], made[:, frames], atol=1e-2)


def test_the_seam_of_a_loop_is_continuous(tmp_path):
    """A tone, which would click at a seam: the step from the end to the start is one of those within."""
    path = tmp_path / "loop.wav"
    command = [COMMAND, "gen", "bright saw wave at A4", "--model", "sao-tiny", "--loop", "--seconds", 2, "--seed", 1]
    succeed([*command, "-o", path])
    samples, _ = soundfile.read(path)
    assert len(samples) == 2 * RATE
    assert np.abs(samples[0] - samples[-1]).max() <= np.abs(np.diff(samples, axis=0)).max()


def test_exact_bars_and_a_loop_of_a_length_exclude_each_other(engine):
    with pytest.raises(RequestError, match="leave loop out"):
        engine.plan(Request("rain", loop=True, bpm=120, bars=1))


def test_bars_decide_a_length_beyond_the_window_too(engine):
    with pytest.raises(RequestError, match="leave one of them out"):
        engine.plan(Request("rain", seconds=window_of(engine) + 1, bpm=120, bars=1))
    with pytest.raises(RequestError, match="needs bpm and bars"):
        engine.plan(Request("rain", seconds=window_of(engine) + 1, bpm=120))
