"""Several clips from one engine, in order, begun no earlier than asked for; and from asyncio."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from sao_onnx.errors import RequestError


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


def test_from_asyncio(engine):
    """As the README shows it: a stream in a thread, its events in the loop, cancelled by leaving the loop."""

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
    for start in (10.0, -1.0):
        with pytest.raises(RequestError, match=r"expected 0 or more and less than 10\.000"):
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
    clip = engine.generate("rain", init_audio=tmp_path / f"a{suffix}", keep=[(0.5, 1.9)], seconds=2.0, seed=1, steps=1)
    kept = np.abs(clip.samples[0, round(0.6 * 44100) : round(1.8 * 44100)])
    start = np.flatnonzero(kept > 0.5 * kept.max())[0] / 44100 + 0.6
    assert start == pytest.approx(1.0, abs=0.003 if suffix != ".mp3" else 0.03)
