from __future__ import annotations

import sys

import numpy as np
import pytest

from sao_onnx.audio.files import encode_audio
from sao_onnx.audio.prepare import Part, fit, normalize, prepare
from sao_onnx.errors import RequestError, SaoOnnxWarning
from tests.processes import succeed


def test_normalize():
    samples = np.array([[0.1, -0.5], [0.25, 0.0]], np.float32)
    np.testing.assert_allclose(normalize(samples), samples * 2)
    assert normalize(samples).dtype == np.float32


@pytest.mark.parametrize("level", [0.0, 1e-9])
def test_silence_is_not_divided_by_its_peak(level):
    samples = np.full((2, 8), level, np.float32)
    np.testing.assert_array_equal(normalize(samples), samples)
    assert normalize(np.zeros((2, 0), np.float32)).shape == (2, 0)


def test_fit():
    samples = np.ones((2, 5), np.float32)
    assert fit(samples, 3).shape == (2, 3)
    assert fit(samples, 8)[:, 5:].sum() == 0
    assert fit(samples, 8).sum() == 10


def _prepare(samples, rate=44100, channels=2, target=44100):
    return prepare(samples, rate, Part(0.0, 10**6, channels, target))


def test_channels():
    mono = np.linspace(-1, 1, 10, dtype=np.float32)
    np.testing.assert_array_equal(_prepare(mono), [mono, mono])
    np.testing.assert_array_equal(_prepare(mono[None]), [mono, mono])
    five = np.arange(50, dtype=np.float32).reshape(5, 10)
    with pytest.warns(SaoOnnxWarning, match="has 5 channels, of which the first 2 are used"):
        np.testing.assert_array_equal(_prepare(five), five[:2])
    np.testing.assert_array_equal(_prepare(five, channels=1), five.mean(0, keepdims=True))


@pytest.mark.parametrize("rate", [8000, 22050, 48000, 96000])
def test_resampling_keeps_pitch_and_length(rate):
    tone = np.sin(2 * np.pi * 1000 * np.arange(rate) / rate).astype(np.float32)
    found = _prepare(tone, rate)
    assert found.shape == (2, 44100)
    assert found.dtype == np.float32
    spectrum = np.abs(np.fft.rfft(found[0] * np.hanning(44100)))
    assert abs(int(spectrum.argmax()) - 1000) <= 1
    assert abs(np.abs(found[0, 4410:-4410]).max() - 1) < 0.01


@pytest.mark.parametrize(
    ("samples", "rate", "match"),
    [
        (np.zeros((2, 0)), 44100, "empty"),
        (np.zeros(0), 44100, "empty"),
        (np.full((2, 4), np.nan), 44100, "NaN"),
        (np.array([[1.0, np.inf]]), 44100, "infinite"),
        (np.zeros((1, 2, 3)), 44100, "shape"),
        (np.array(["a"]), 44100, "dtype"),
        (np.zeros((2, 4), complex), 44100, "dtype"),
        (np.zeros((2, 4)), 0, "sample rate"),
        (np.zeros((2, 4)), 44100.5, "sample rate"),
        (np.zeros((2, 4)), True, "sample rate"),
    ],
)
def test_refuses(samples, rate, match):
    with pytest.raises(RequestError, match=match):
        _prepare(samples, rate)


@pytest.mark.parametrize(
    ("suffix", "rate", "channels"),
    [
        (".ogg", 1_000_000, 2),
        (".ogg", 0, 2),
        (".ogg", 44_100, 256),
        (".opus", 0, 2),
        (".opus", 44_100, 300),
        (".mp3", 1000, 2),
        (".mp3", 44_100, 3),
        (".flac", 1_000_000, 2),
        (".flac", 44_100, 9),
        (".wav", 0, 2),
        (".wav", 44_100, 0),
    ],
)
def test_what_a_format_cannot_hold_is_refused(suffix, rate, channels):
    """In a process of its own, because libsndfile ends the process for some of them."""
    script = (
        "import numpy; from sao_onnx.audio.files import encode_audio; from sao_onnx.errors import AudioFileError\n"
        f"try: encode_audio(numpy.zeros(({channels}, 1000), 'float32'), {rate}, {suffix!r})\n"
        "except AudioFileError as error: print(error)"
    )
    message = succeed([sys.executable, "-c", script])
    assert message.startswith(f"{channels} channels at {rate} Hz cannot be written as {suffix}: ")
    assert "object at" not in message


@pytest.mark.parametrize(("rate", "channels"), [(1, 2), (200_000, 2), (44_100, 255)])
def test_the_limits_of_vorbis_are_inside(rate, channels):
    assert encode_audio(np.zeros((channels, 100), np.float32), rate, ".ogg").startswith(b"OggS")
