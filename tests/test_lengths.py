"""Lengths that are printed are accepted when somebody types them: limits in errors, and the window as the command tells it."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sao_onnx.bundle.bundle import open_bundle
from sao_onnx.bundle.manifest import Manifest
from sao_onnx.errors import RequestError
from sao_onnx.planning.extension import extension
from sao_onnx.planning.plan import Plan
from sao_onnx.planning.planner import plan
from sao_onnx.request import Request
from tests.recordings import RATE

WINDOWS = [range(n, n + 8) for n in (1, 86, 250, 344)]
"""Windows in latents of 512 frames, whose lengths end in all digits."""


@pytest.fixture(scope="module")
def manifest(miniature) -> Manifest:
    return open_bundle(miniature).manifest


@pytest.fixture
def planned(manifest):
    def make(latents: int, **options: Any) -> Plan:
        window = latents * manifest.latents.ratio
        return plan(replace(manifest, audio=replace(manifest.audio, window=window)), Request("kick", **options))

    return make


def limit(make: Any, **options: Any) -> float:
    """The largest value that the error for a too large one names."""
    with pytest.raises(RequestError) as caught:
        make(**options)
    return float(re.findall(r"\d+\.\d+", str(caught.value))[-1])


@pytest.mark.parametrize("latents", [n for window in WINDOWS for n in window])
def test_the_printed_window_is_accepted(planned, latents):
    window = latents * 512 / RATE
    printed = {limit(lambda **o: planned(latents, **o), window_seconds=100.5)}
    for seconds in (*printed, float(f"{window:.3f}"), float(f"{window:.2f}") or window):
        assert planned(latents, seconds=seconds).windows[0].frames <= latents * 512
        assert planned(latents, window_seconds=seconds).windows[0].latent_count <= latents
    for seconds in (*printed, float(f"{window:.3f}"), float(f"{window:.2f}")):
        if seconds >= window:
            assert planned(latents, seconds=seconds).windows[0].frames == latents * 512
            assert planned(latents, window_seconds=seconds).windows[0].latent_count == latents


@pytest.mark.parametrize("latents", [n for window in WINDOWS[1:] for n in window])
def test_the_printed_end_of_a_clip_is_accepted(planned, latents):
    window = latents * 512 / RATE
    init = (np.zeros((2, 100), np.float32), RATE)
    printed = limit(lambda **o: planned(latents, init_audio=init, **o), keep=[(0.5, 100)])
    for end in (printed, float(f"{window:.3f}"), float(f"{window:.2f}")):
        (region,) = planned(latents, init_audio=init, keep=[(0.5, end)]).windows[0].kept
        assert region == (0.5, min(end, window))
        # The end of the clip as it was printed is its end, too.
        assert planned(latents, init_audio=init, seconds=end, keep=[(0.5, end)]).windows[0].kept == (region,)


@pytest.mark.parametrize("rate", [RATE, 48000, 8000])
@pytest.mark.parametrize("frames", [*range(1, 40), *range(4400, 4420)])
def test_the_last_start_that_is_printed_is_accepted(planned, frames, rate):
    init = (np.zeros((1, frames), np.float32), rate)
    with pytest.raises(RequestError) as caught:
        planned(100, init_audio=init, init_start=100)
    (last,) = re.findall(r"expected 0 to (\d+\.\d+);", str(caught.value))
    assert planned(100, init_audio=init, init_start=float(last)).recording.array.shape[1] > 0


def test_as_long_as_nothing(planned):
    for seconds in (1e-300, 1e-9, 1.1e-5):
        with pytest.raises(RequestError, match=r"expected at least 0\.000023, one frame of audio"):
            planned(100, seconds=seconds)
    assert planned(100, seconds=0.000023).windows[0].frames == 1
    with pytest.raises(RequestError, match=r"extend is shorter than one frame of audio, expected at least 0\.000023 s"):
        extension(RATE, round(1e-5 * RATE), 1000, RATE)
    assert extension(RATE, round(0.000023 * RATE), 1000, RATE)[0].added == 1


def test_a_recording_that_is_just_too_short_is_not_called_long_enough():
    with pytest.raises(RequestError, match=r"the recording is 0\.099 s long; extend needs at least 0\.1 s"):
        extension(4409, 100, 1000, RATE)


@pytest.mark.parametrize("name", ["seconds", "window_seconds", "init_start"])
def test_lengths_that_no_computer_has(planned, name):
    init = {"init_audio": (np.zeros((1, 9), np.float32), RATE)} if name == "init_start" else {}
    with pytest.raises(RequestError, match=f"{name} is 1e\\+308, expected"):
        planned(100, **init, **{name: 1e308})


def test_a_loop_that_is_just_too_long(planned):
    """Both lengths are printed so that one is seen to be longer."""
    with pytest.raises(RequestError) as caught:
        planned(344, bpm=4 * 60 / 3.9939, bars=1)
    length, window = map(float, re.findall(r"(\d\.\d+) s", str(caught.value)))
    assert length > window
