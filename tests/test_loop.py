"""Loops: exact length, the tempo in the prompt, an end that leads into the start."""

from __future__ import annotations

import os

import numpy as np
import pytest
import soundfile

from sao_onnx.audio.loop import joined
from sao_onnx.errors import RequestError
from sao_onnx.planning.loops import loop_seconds, with_tempo
from tests.processes import COMMAND, succeed


def test_length():
    assert loop_seconds(120, 2, 4) == 4
    assert loop_seconds(90, 1, 3) == 2


def test_the_tempo_is_said_once():
    assert with_tempo("tech house", 120) == "tech house, 120 BPM"
    assert with_tempo("tech house", 92.5) == "tech house, 92.5 BPM"
    for prompt in ("128 BPM tech house", "house at 90bpm"):
        assert with_tempo(prompt, 128) == prompt
    assert with_tempo("tech house", None) == "tech house"


def test_the_end_leads_into_the_start():
    """A tone that goes on behind the end goes on into the start, whatever its phase there."""
    frames, overlap = 10_000, 2_000
    times = np.arange(frames + overlap)
    tone = np.sin(2 * np.pi * times / 173.7)[None].astype(np.float32)
    loop = joined(tone, frames)
    assert loop.shape == (1, frames)
    twice = np.concatenate([loop, loop], axis=1)[0]
    np.testing.assert_allclose(twice[frames - 200 : frames + 20], tone[0, frames - 200 : frames + 20], atol=0.05)
    assert np.abs(np.diff(twice)).max() < 1.1 * np.abs(np.diff(tone)).max()
    # Behind the cross-fade it is what was made.
    np.testing.assert_array_equal(loop[:, overlap:], tone[:, overlap:frames])
    # Cut off without one, it would click.
    cut = np.concatenate([tone[0, :frames], tone[0, :frames]])
    assert np.abs(np.diff(cut)).max() > 5 * np.abs(np.diff(tone)).max()


def test_what_repeats_already_stays_as_it_is():
    times = np.arange(12_000)
    tone = np.sin(2 * np.pi * times / 100)[None].astype(np.float32)
    np.testing.assert_allclose(joined(tone, 10_000), tone[:, :10_000], atol=1e-5)
    np.testing.assert_array_equal(joined(tone[:, :10_000], 10_000), tone[:, :10_000])


def test_a_loop(engine):
    clip = engine.generate("rain", bpm=173, bars=1, beats=5, seed=2, steps=2)
    assert clip.samples.shape[1] == round(5 * 60 / 173 * 44100)
    assert clip.provenance.prompt == "rain, 173 BPM"
    # The model is told of its whole window, not of the loop, or it would come to an end.
    whole = engine.generate("rain, 173 BPM", seed=2, steps=2, full_window=True, normalize="none")
    np.testing.assert_array_equal(clip.latents, whole.latents)
    frames, overlap = clip.samples.shape[1], round(0.05 * 44100)
    raw = engine.generate("rain", bpm=173, bars=1, beats=5, seed=2, steps=2, normalize="none")
    np.testing.assert_allclose(raw.samples, joined(whole.samples[:, : frames + overlap], frames), atol=1e-6)
    # Joined, the start is another than that of the window.
    assert np.abs(raw.samples[:, :overlap] - whole.samples[:, :overlap]).max() > 1e-3


def test_a_loop_as_long_as_the_window(engine):
    seconds = engine.manifest.window_seconds
    clip = engine.generate("rain", bpm=240 / seconds, bars=1, seed=2, steps=1)
    assert clip.samples.shape[1] == engine.manifest.audio.window


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bpm": 120}, "needs bpm and bars"),
        ({"bars": 1}, "needs bpm and bars"),
        ({"bpm": 120, "bars": 1, "seconds": 1}, "seconds says the length"),
        ({"bpm": 120, "bars": 1, "trim_silence": True}, "trim_silence changes the length"),
        ({"bpm": 120, "bars": 3}, r"3 bars at 120 BPM are 6\.000 s, and the window is 3\.993 s"),
        ({"bpm": 10, "bars": 1}, "bpm is 10, expected 20 to 400"),
        ({"bpm": float("nan"), "bars": 1}, "bpm is nan"),
        ({"bpm": 120, "bars": 0}, "bars is 0, expected 1 to 64"),
        ({"bpm": 120, "bars": 1, "beats": 17}, "beats is 17, expected 1 to 16"),
        ({"bpm": 120, "bars": 1.5}, "expected a whole number"),
    ],
)
def test_bad_loops(engine, options, message):
    with pytest.raises(RequestError, match=message):
        engine.generate("rain", **options)


def test_the_command(miniature, tmp_path):
    succeed([COMMAND, "gen", "rain", "--model", miniature, "-o", "a.flac", "--bpm", 120, "--bars", 1], cwd=tmp_path)
    assert soundfile.info(tmp_path / "a.flac").frames == 88200
    assert os.listdir(tmp_path) == ["a.flac"]
