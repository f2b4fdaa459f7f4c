"""From a request to a plan: every default worked out, everything that is wrong found, without a network."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import sao_onnx
from sao_onnx.bundle.bundle import open_bundle
from sao_onnx.bundle.manifest import Manifest, Sampling
from sao_onnx.errors import AudioFileError, RequestError, SaoOnnxWarning
from sao_onnx.planning.plan import Guidance, Plan
from sao_onnx.planning.planner import plan
from sao_onnx.request import DEFAULT_NOISE_LEVEL, Request
from sao_onnx.runtime.sessions import SessionFactory
from sao_onnx.sampling.objectives import OBJECTIVES
from tests.recordings import RATE, tones

NAN = float("nan")
TONE = (np.zeros((2, 4410), np.float32), RATE)


@pytest.fixture(scope="module")
def manifest(miniature) -> Manifest:
    return open_bundle(miniature).manifest


@pytest.fixture
def planned(manifest):
    def make(**options) -> Plan:
        return plan(manifest, Request("kick", **options))

    return make


def test_defaults(manifest, planned):
    found = planned()
    (window,) = found.windows
    assert window.latent_count == manifest.window_latents
    assert window.frames == window.decoded == manifest.audio.window
    assert window.numbers == {"seconds_total": pytest.approx(manifest.window_seconds)}
    assert window.steps == 8
    assert window.sigmas[0] == 1
    assert (window.start, window.tail, window.kept) == (0, 0, None)
    assert found.sampler == "pingpong"
    assert found.objective == "rf_denoiser"
    assert found.guidance is found.recording is found.latents is None
    assert found.finish.normalize == "peak"
    assert found.seed == window.seed


def test_open_seeds_differ(planned):
    assert len({planned().seed for _ in range(8)}) > 5
    assert planned(seed=9).seed == 9


def test_seconds_reach_the_conditioner(planned):
    (window,) = planned(seconds=1.5).windows
    assert window.numbers == {"seconds_total": 1.5}
    assert window.frames == window.decoded == round(1.5 * RATE)


def test_window(manifest, planned):
    (window,) = planned(window_seconds=1.0).windows
    assert window.latent_count == 87  # 86.13 latents, rounded up
    assert window.frames == 87 * 512
    assert planned(window_seconds=512 / RATE).windows[0].latent_count == 1
    whole = planned(seconds=1.0, full_window=True).windows[0]
    assert (whole.frames, whole.decoded) == (RATE, manifest.audio.window)


def test_numbers_by_name(planned):
    assert planned(seconds=1, numbers={"seconds_total": 3}).windows[0].numbers == {"seconds_total": 3.0}


def test_guidance(planned):
    assert planned(cfg_scale=3).guidance == Guidance(3.0, None)
    assert planned(cfg_scale=3, negative_prompt="hiss").guidance == Guidance(3.0, "hiss")
    assert planned(cfg_scale=1).guidance is None


def test_initial_audio(manifest, planned):
    found = planned(init_audio=TONE)
    assert found.recording is not None
    assert found.recording.array.shape == (manifest.audio.channels, 4410)
    assert found.windows[0].sigmas[0] == np.float32(DEFAULT_NOISE_LEVEL)
    assert planned(init_audio=TONE, init_noise_level=0.5).windows[0].sigmas[0] == 0.5
    assert planned(init_audio=TONE, init_start=0.05).recording.array.shape[1] == 4410 - 2205
    # Where something is kept, the rest is made from noise.
    assert planned(init_audio=TONE, seconds=2.0, keep=[(0, 1)]).windows[0].sigmas[0] == 1


@pytest.mark.parametrize("init", [TONE, (TONE[0][0], 22050), (TONE[0].T.astype(np.float64)[:, :1].T, 48000)])
def test_recordings_of_every_shape(manifest, planned, init):
    found = planned(init_audio=init).recording.array
    assert found.dtype == np.float32
    assert found.shape == (2, pytest.approx(np.atleast_2d(init[0]).shape[1] * RATE / init[1], abs=1))


def test_a_loop_is_told_the_whole_window(manifest, planned):
    (window,) = planned(bpm=173, bars=1, beats=5).windows
    assert window.frames == round(5 * 60 / 173 * RATE)
    assert window.decoded == window.frames + window.tail
    assert window.tail == round(0.05 * RATE)
    assert window.numbers == {"seconds_total": pytest.approx(manifest.window_seconds)}
    assert planned(bpm=173, bars=1).prompt == "kick, 173 BPM"


def test_an_extension_is_more_windows(manifest, planned):
    recording = tones(2.0)
    found = planned(init_audio=recording, extend=6.5, seed=3)
    assert len(found.windows) > 1
    assert [window.seed for window in found.windows] == list(range(3, 3 + len(found.windows)))
    so_far = 2 * RATE
    for window in found.windows:
        overlap = so_far - window.start
        assert window.kept == ((0.0, overlap / RATE),)
        assert overlap < window.frames <= manifest.audio.window
        assert window.sigmas[0] == 1
        so_far = window.start + window.frames
    assert so_far == round(8.5 * RATE)
    assert found.finish.normalize == "none"


def test_regions_become_weights(planned):
    found = planned(init_audio=tones(3.0), seconds=3.0, keep=[(0, 1), (2.5, 3)])
    (window,) = found.windows
    assert window.kept == ((0, 1), (2.5, 3))
    audio, latents = found.audio_weights(window), found.latent_weights(window)
    assert audio.shape == (window.latent_count * found.ratio,)
    assert latents.shape == (window.latent_count,)
    assert audio[RATE // 2] == latents[40] == 1
    assert audio[2 * RATE] == latents[150] == 0
    other = planned(init_audio=tones(3.0), seconds=3.0, regenerate=[(1, 2.5)], seed=found.seed)
    assert other.windows == found.windows


BAD: list[tuple[dict[str, Any], str]] = [
    ({"seconds": 4000}, "seconds is 4000, expected at most 3600"),
    ({"window_seconds": 5}, r"window_seconds is 5, expected more than 0 and at most 3\.994"),
    ({"window_seconds": 1, "seconds": 2}, "seconds is 2"),
    ({"init_noise_level": 0.5}, "init_noise_level, or strength, needs initial audio to start from; give both or neither"),
    ({"init_start": 1.0}, "init_start needs initial audio"),
    ({"keep": [(0, 1)]}, "need initial audio"),
    ({"regenerate": [(0, 1)]}, "need initial audio"),
    ({"init_audio": TONE, "init_noise_level": 0.1}, r"init_noise_level is 0\.1, expected 0\.12 to 1"),
    ({"init_audio": TONE, "init_start": 0.1}, r"init_start is 0\.1, expected 0 to 0\.099; the audio is 0\.100 s long"),
    ({"init_audio": (np.zeros((2, 0)), RATE)}, "empty"),
    ({"init_audio": (np.full((2, 9), NAN), RATE)}, "NaN"),
    (
        {"init_audio": np.zeros((2, 9))},
        r"init_audio is ndarray, expected \(samples, sample_rate\), the path of a file or a clip",
    ),
    ({"init_audio": TONE, "latents": np.zeros((8, 4), np.float32)}, "init_audio and latents exclude each other"),
    ({"latents": np.zeros((3, 4), np.float32)}, r"latents have shape \(3, 4\).*expected floats \(8, n\)"),
    ({"latents": np.zeros((8, 0), np.float32)}, r"latents have shape \(8, 0\)"),
    ({"latents": np.zeros((8, 4), np.int64)}, "dtype int64, expected floats"),
    ({"latents": np.full((8, 4), NAN, np.float32)}, "latents hold NaN"),
    ({"latents": [[1.0]]}, "latents have shape"),
    ({"numbers": {"seconds_start": 1}}, "no number conditioner 'seconds_start'; it has seconds_total"),
    ({"init_audio": TONE, "keep": [(0, 1)], "regenerate": [(2, 3)]}, "exclude each other"),
    ({"init_audio": TONE, "keep": [(0, 5)]}, r"a region ends at 5 s, and the clip at 3\.994 s"),
    ({"init_audio": TONE, "seconds": 1, "keep": [(0, 1)]}, "everything would be kept"),
    ({"bpm": 120}, "needs bpm and bars"),
    ({"bars": 1}, "needs bpm and bars"),
    ({"beats": 3}, "needs bpm and bars"),
    ({"bpm": 120, "bars": 1, "seconds": 1}, "seconds says the length, which bpm and bars decide"),
    ({"bpm": 120, "bars": 1, "trim_silence": True}, "trim_silence changes the length"),
    ({"bpm": 120, "bars": 3}, r"3 bars at 120 BPM are 6\.000 s, and the window is 3\.993 s; ask for fewer bars or more BPM"),
    ({"extend": 1}, "extend needs initial audio to go on from"),
    ({"extend": 1, "init_audio": (np.zeros((2, 100)), RATE)}, r"extend needs at least 0\.1 s of audio"),
    ({"extend": 9, "init_audio": tones(2.0), "seed": 2**32 - 1}, "seed is 4294967295, expected .* or less for 5 windows"),
    *(
        ({"extend": 1, "init_audio": TONE, name: value}, f"{name} does not go with extend, which decides it")
        for name, value in {
            "seconds": 2,
            "keep": [(0, 1)],
            "regenerate": [(0, 1)],
            "bpm": 120,
            "bars": 1,
            "beats": 4,
            "window_seconds": 1,
            "full_window": True,
        }.items()
    ),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_refuses_and_names_value_range_and_remedy(planned, options, message):
    with pytest.raises(RequestError, match=message):
        planned(**options)


def test_everything_wrong_is_found_before_a_graph_is_opened(miniature, monkeypatch, tmp_path):
    """At once, when the stream is asked for, and not with its first event."""

    def touched(*_, **__):
        raise AssertionError("a graph was opened")

    monkeypatch.setattr(SessionFactory, "session", touched)
    engine = sao_onnx.load(miniature)
    for options, message in BAD:
        with pytest.raises(RequestError, match=message):
            engine.stream("rain", **options)
    wrong: list[dict[str, Any]] = [{"steps": 0}, {"sampler": "ddim"}, {"unknown": 1}]
    for options in wrong:
        with pytest.raises(RequestError):
            engine.stream("rain", **options)
    with pytest.raises(AudioFileError, match=r"nothing\.wav"):
        engine.stream("rain", init_audio=tmp_path / "nothing.wav")
    # And what is right is begun without one.
    engine.stream("rain")
    assert isinstance(engine.plan(Request("rain")), Plan)


def test_the_limit_that_the_error_names_is_accepted(manifest, planned):
    assert planned(seconds=3.994).windows[0].frames == manifest.audio.window


def test_negative_prompt_without_guidance_warns(planned):
    with pytest.warns(SaoOnnxWarning, match="no effect without guidance; set cfg_scale above 1"):
        planned(negative_prompt="hiss")


def test_the_model_s_defaults_of_another_objective(manifest):
    """What the reference's interface starts with for `rectified_flow`: 50 steps of Euler, guidance 7."""
    base = replace(manifest, sampling=Sampling("rectified_flow", "euler", 50, 7.0))
    found = plan(base, Request("rain", negative_prompt="hiss"))
    assert (found.objective, found.sampler, found.guidance) == ("rectified_flow", "euler", Guidance(7.0, "hiss"))
    assert found.windows[0].sigmas == tuple(OBJECTIVES["rectified_flow"].sigmas(50).tolist())
    own = plan(base, Request("rain", steps=4, sampler="dpmpp", cfg_scale=1))
    assert (own.windows[0].steps, own.sampler, own.guidance) == (4, "dpmpp", None)


REQUESTS = [
    {"seconds": 1},
    {"cfg_scale": 3, "negative_prompt": "hiss", "numbers": {"seconds_total": 2}},
    {"bpm": 120, "bars": 1},
    {"init_audio": tones(2.0), "extend": 3},
    {"init_audio": tones(2.0), "keep": [(0, 1)], "seconds": 2},
    {"latents": np.ones((8, 4), np.float32)},
]


@pytest.mark.parametrize("options", REQUESTS)
def test_is_plain_data(planned, options):
    """Compared, printed in a few lines, and sent to another process."""
    found = planned(seed=5, **options)
    assert found == planned(seed=5, **options)
    assert found != planned(seed=6, **options)
    assert pickle.loads(pickle.dumps(found)) == found
    assert len(repr(found)) < 1000 * len(found.windows)
    assert "array(" not in repr(found)


def test_recordings_are_compared_by_their_values(planned):
    one, other = (planned(seed=1, init_audio=(np.full((2, 4410), value, np.float32), RATE)) for value in (0.1, 0.2))
    assert one != other
    assert hash(one.recording) == hash(planned(init_audio=TONE).recording)
    assert repr(one.recording) == "Values(2 x 4410)"
