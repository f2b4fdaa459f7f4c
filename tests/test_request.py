from __future__ import annotations

import numpy as np
import pytest

import sao_onnx
from sao_onnx.bundle.manifest import Manifest
from sao_onnx.errors import AudioFileError, RequestError
from sao_onnx.request import DEFAULT_NOISE_LEVEL, make_request

NAN, INF = float("nan"), float("inf")
TONE = (np.zeros((2, 100), np.float32), 44100)


@pytest.fixture
def manifest(engine) -> Manifest:
    return engine.manifest


def test_defaults(manifest):
    request = make_request(manifest, "kick")
    assert request.window == manifest.window_latents
    assert request.frames == manifest.audio.window
    assert request.numbers == {"seconds_total": pytest.approx(manifest.window_seconds)}
    assert len(request.levels) == 9
    assert request.levels[0] == 1
    assert request.sampler == "pingpong"
    assert request.cfg_scale == 1
    assert 0 <= request.seed < 2**32


def test_seconds_reach_the_conditioner(manifest):
    request = make_request(manifest, "kick", seconds=1.5)
    assert request.numbers == {"seconds_total": 1.5}
    assert request.frames == round(1.5 * 44100)


def test_window(manifest):
    request = make_request(manifest, "kick", window_seconds=1.0)
    assert request.window == 87  # 86.13 latents, rounded up
    assert request.frames == 87 * 512
    assert make_request(manifest, "kick", window_seconds=512 / 44100).window == 1


def test_numbers_by_name(manifest):
    assert make_request(manifest, "kick", seconds=1, numbers={"seconds_total": 3}).numbers == {"seconds_total": 3.0}


def test_initial_audio_is_fitted(manifest):
    request = make_request(manifest, "kick", init_audio=TONE)
    assert request.init_audio.shape == (2, manifest.audio.window)
    assert request.levels[0] == np.float32(DEFAULT_NOISE_LEVEL)
    short = make_request(manifest, "kick", init_audio=TONE, window_seconds=0.05, init_noise_level=0.5)
    assert short.init_audio.shape == (2, short.window * 512)
    assert short.levels[0] == 0.5


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"seconds": 4.1}, r"seconds is 4\.1, expected more than 0 and at most 3\.994"),
        ({"seconds": 0}, "seconds is 0"),
        ({"seconds": -1}, "seconds is -1"),
        ({"seconds": NAN}, "seconds is nan, expected a finite number"),
        ({"seconds": "3"}, "seconds is '3'"),
        ({"seconds": True}, "seconds is True"),
        ({"steps": 0}, "steps is 0, expected at least 1"),
        ({"steps": 2.5}, r"steps is 2\.5, expected a whole number"),
        ({"seed": -1}, "seed is -1, expected 0 to 4294967295"),
        ({"seed": 2**32}, "seed is 4294967296"),
        ({"seed": 1.0}, r"seed is 1\.0, expected a whole number"),
        ({"sampler": "ddim"}, "sampler is 'ddim', known: pingpong, euler, dpmpp"),
        ({"cfg_scale": NAN}, "cfg_scale is nan"),
        ({"cfg_scale": INF}, "cfg_scale is inf"),
        ({"cfg_scale": -1}, "expected 0 to 100"),
        ({"negative_prompt": 3}, "the negative prompt is 3"),
        ({"window_seconds": 5}, r"window_seconds is 5, expected more than 0 and at most 3\.994"),
        ({"window_seconds": 0}, "window_seconds is 0"),
        ({"window_seconds": NAN}, "window_seconds is nan"),
        ({"window_seconds": 1, "seconds": 2}, "seconds is 2"),
        ({"init_noise_level": 0.5}, "without initial audio"),
        ({"init_audio": TONE, "init_noise_level": 0.1}, r"noise level is 0\.1, expected 0\.12 to 1"),
        ({"init_audio": TONE, "init_noise_level": 1.5}, "noise level is 1.5"),
        ({"init_audio": TONE, "init_noise_level": NAN}, "noise level is nan"),
        ({"init_audio": (np.zeros((2, 0)), 44100)}, "empty"),
        ({"init_audio": (np.full((2, 9), NAN), 44100)}, "NaN"),
        ({"init_audio": np.zeros((2, 9))}, r"init_audio is ndarray, expected \(samples, sample_rate\)"),
        ({"numbers": {"seconds_start": 1}}, "no number conditioner 'seconds_start'; it has seconds_total"),
        ({"numbers": {"seconds_total": NAN}}, "seconds_total is nan"),
    ],
)
def test_refuses_and_names_value_range_and_remedy(manifest, options, match):
    with pytest.raises(RequestError, match=match):
        make_request(manifest, "kick", **options)
    assert issubclass(RequestError, ValueError)


def test_prompt_must_be_text(manifest):
    with pytest.raises(RequestError, match="the prompt is None"):
        make_request(manifest, None)


def test_the_limit_that_the_error_names_is_accepted(manifest):
    assert make_request(manifest, "kick", seconds=3.994).frames == manifest.audio.window


def test_negative_prompt_without_guidance_warns(manifest):
    with pytest.warns(sao_onnx.SaoOnnxWarning, match="no effect without guidance"):
        make_request(manifest, "kick", negative_prompt="hiss")


def test_missing_initial_file(manifest, tmp_path):
    with pytest.raises(AudioFileError, match=r"nothing\.wav"):
        make_request(manifest, "kick", init_audio=tmp_path / "nothing.wav")
