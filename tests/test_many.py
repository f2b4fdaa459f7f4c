"""Several clips from one engine, in order or as they are made, begun no earlier than asked for; and from asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import numpy as np
import pytest

from sao_onnx.errors import RequestError, SaoOnnxWarning
from sao_onnx.request import Options, Request
from sao_onnx.running.many import many
from tests.processes import GUARD


@pytest.mark.parametrize("jobs", [1, 2, 3])
def test_in_order(engine, jobs):
    requests = [("rain", {"seed": seed, "seconds": 0.2, "steps": 1}) for seed in range(4)]
    clips = list(engine.generate_many(requests, jobs=jobs))
    assert [clip.seed for clip in clips] == [0, 1, 2, 3]
    for clip, (prompt, options) in zip(clips, requests, strict=True):
        np.testing.assert_array_equal(clip.samples, engine.generate(prompt, **options).samples)


def test_no_more_is_begun_than_asked_for(engine):
    taken = []

    def requests():
        for seed in range(100):
            taken.append(seed)
            yield "rain", {"seed": seed, "seconds": 0.1, "steps": 1}

    clips = engine.generate_many(requests(), jobs=2)
    assert next(clips).seed == 0
    clips.close()
    assert len(taken) == 2


def test_errors_come_in_their_place(engine):
    clips = engine.generate_many([("rain", {"seconds": 0.1, "steps": 1}), ("rain", {"seconds": -1})])
    assert next(clips).seconds == pytest.approx(0.1)
    with pytest.raises(RequestError, match="seconds is -1"):
        next(clips)
    with pytest.raises(RequestError, match="jobs is 0"):
        engine.generate_many([], jobs=0)


@pytest.mark.parametrize("jobs", [1, 2, 3])
def test_errors_come_where_the_clip_would_have_come(engine, jobs):
    """However many are begun ahead, all clips before the error are handed out."""
    short: Options = {"seconds": 0.1, "steps": 1}
    requests = [("rain", short), ("kick", short), ("rain", {**short, "secons": 1}), ("rain", short)]
    clips = engine.generate_many(requests, jobs=jobs)
    assert [next(clips).provenance.prompt for _ in range(2)] == ["rain", "kick"]
    with pytest.raises(RequestError, match="did you mean 'seconds'"):
        next(clips)
    clips = engine.generate_many(["rain", "kick"], seed=2**32 - 1, jobs=jobs, seconds=0.1, steps=1)
    assert next(clips).seed == 2**32 - 1
    with pytest.raises(RequestError, match="seed is 4294967296, expected 0 to 4294967295"):
        next(clips)


def test_prompts_in_a_list(engine):
    clips = list(engine.generate_many(["rain", "kick", "wind"], seed=7, seconds=0.2, steps=1))
    assert [(clip.provenance.prompt, clip.seed) for clip in clips] == [("rain", 7), ("kick", 8), ("wind", 9)]
    np.testing.assert_array_equal(clips[1].samples, engine.generate("kick", seed=8, seconds=0.2, steps=1).samples)
    drawn = list(engine.generate_many(["rain", "rain"], seconds=0.1, steps=1))
    assert drawn[0].seed != drawn[1].seed


def test_what_a_request_says_itself_comes_first(engine):
    requests = [
        "rain",
        ("rain", {"seed": 3, "mono": True}),
        Request("rain", seconds=0.3),
        (Request("rain", seconds=0.3, seed=1), {"seed": 2}),
    ]
    clips = list(engine.generate_many(requests, seed=10, seconds=0.2, steps=1, mono=False))
    assert [clip.seed for clip in clips] == [10, 3, 12, 2]
    assert [len(clip.samples) for clip in clips] == [2, 1, 2, 2]
    assert [clip.seconds for clip in clips] == pytest.approx([0.2, 0.2, 0.3, 0.3])


@pytest.mark.parametrize("single", ["rain", Request("rain")])
def test_a_single_request_is_no_list(engine, single):
    """A text is a sequence as well: of letters."""
    with pytest.raises(RequestError, match="expected several in a list; for one clip use generate"):
        engine.generate_many(single)


@pytest.mark.parametrize("jobs", [1, 3])
def test_work_is_in_order(jobs):
    def work(item):
        if item == 2:
            raise ValueError("two")
        return item * item

    found = []
    for item, result in many(work, iter(range(4)), jobs, in_order=True):
        try:
            found.append((item, result()))
        except ValueError as error:
            found.append((item, str(error)))
    assert found == [(0, 0), (1, 1), (2, "two"), (3, 9)]


def test_from_asyncio(engine):
    """As some applications do: a stream in a thread, its events in the loop, cancelled by leaving the loop."""

    async def steps(prompt):
        events = engine.stream(prompt, seed=1, seconds=0.2, steps=3)
        while (event := await asyncio.to_thread(next, events, None)) is not None:
            yield event

    async def both():
        async def last(prompt):
            return [event async for event in steps(prompt)][-1].clip

        return await asyncio.gather(last("rain"), last("kick"))

    rain, kick = asyncio.run(both())
    np.testing.assert_array_equal(rain.samples, engine.generate("rain", seed=1, seconds=0.2, steps=3).samples)
    assert not np.array_equal(rain.samples, kick.samples)


def test_which_part_of_a_longer_recording(engine):
    rate = 44100
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 10 * rate)).astype(np.float32)
    options = {"seconds": 1.0, "seed": 1, "steps": 2, "init_noise_level": 0.5}
    part = engine.generate("rain", init_audio=(noise, rate), init_start=7.0, **options)
    alone = engine.generate("rain", init_audio=(noise[:, 7 * rate :], rate), **options)
    np.testing.assert_array_equal(part.samples, alone.samples)
    for start, message in ((10.0, r"expected 0 to 9\.999; the audio is 10\.000 s long"), (-1.0, "at least 0")):
        with pytest.raises(RequestError, match=message):
            engine.generate("rain", init_audio=(noise, rate), init_start=start)
    with pytest.raises(RequestError, match="init_start needs initial audio"):
        engine.generate("rain", init_start=1.0)


@pytest.mark.parametrize(
    ("suffix", "rate", "channels"),
    [(".wav", 8000, 1), (".flac", 96000, 6), (".mp3", 48000, 1), (".aiff", 22050, 2), (".ogg", 32000, 2)],
)
def test_recordings_of_every_kind(engine, tmp_path, suffix, rate, channels):
    """Whatever libsndfile reads starts a clip, in time with it: a stroke stays where it was."""
    import soundfile

    frames = rate * 2
    stroke = np.zeros(frames)
    stroke[rate : rate + rate // 10] = np.sin(2 * np.pi * 440 * np.arange(rate // 10) / rate)
    soundfile.write(tmp_path / f"a{suffix}", np.tile(stroke[:, None], (1, channels)), rate)
    told = pytest.warns(SaoOnnxWarning, match="the first 2 are used") if channels > 2 else contextlib.nullcontext()
    with told:
        clip = engine.generate("rain", init_audio=tmp_path / f"a{suffix}", keep=[(0.5, 1.9)], seconds=2.0, seed=1, steps=1)
    kept = np.abs(clip.samples[0, round(0.6 * 44100) : round(1.8 * 44100)])
    start = np.flatnonzero(kept > 0.5 * kept.max())[0] / 44100 + 0.6
    assert start == pytest.approx(1.0, abs=0.003 if suffix != ".mp3" else 0.03)


def test_results_come_as_they_are_made():
    """The second one while the first one is worked on; and one at a time while the next item is waited for."""
    second = threading.Event()

    def work(item):
        assert item != 0 or second.wait(GUARD)
        return -item

    made = many(work, range(2), 2)
    item, result = next(made)
    assert (item, result()) == (1, -1)
    second.set()
    assert [(item, result()) for item, result in made] == [(0, 0)]


def test_a_source_that_waits_does_not_keep_results_back():
    asked = threading.Event()

    def items():
        yield 1
        assert asked.wait(GUARD)
        yield 2

    made = many(str, items(), 3)
    assert next(made)[1]() == "1"
    asked.set()
    assert [result() for _, result in made] == ["2"]


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_slow_consumer_is_not_overrun(jobs):
    """No item is taken before the consumer is done with what was made of earlier ones."""
    taken: list[int] = []
    finished = 0

    def items():
        for number in range(20):
            assert number - finished < jobs
            taken.append(number)
            yield number

    for _, result in many(str, items(), jobs):
        result()
        finished += 1
    assert taken == list(range(20))


def test_stopped_while_an_item_is_waited_for():
    """What is begun is handed out; the item that is waited for is not."""
    stop, waiting, over = threading.Event(), threading.Event(), threading.Event()

    def items():
        yield 1
        yield 2
        waiting.set()
        assert over.wait(GUARD)
        yield 3

    def work(item):
        assert item == 1 or waiting.wait(GUARD)
        return item

    found = []
    for _, result in many(work, items(), 3, stop=stop):
        found.append(result())
        stop.set()
    over.set()
    assert found == [1, 2]


def test_errors_of_the_source_come_after_all_results():
    def items():
        yield 1
        yield 0
        raise OSError("gone")

    made = many(lambda item: 1 // item, items(), 1)
    assert next(made)[1]() == 1
    with pytest.raises(ZeroDivisionError):
        next(made)[1]()
    with pytest.raises(OSError, match="gone"):
        next(made)


def test_a_consumer_that_stops_takes_no_more():
    begun: list[int] = []
    stop = threading.Event()
    made = many(begun.append, iter(range(1000)), 2, stop=stop)
    next(made)
    made.close()
    assert stop.is_set()
    assert len(begun) <= 3
