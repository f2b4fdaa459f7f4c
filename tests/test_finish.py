from __future__ import annotations

import numpy as np
import pytest

from sao_onnx.audio.finish import Finish, faded, limited, without_silence
from sao_onnx.audio.loudness import loudness


def _sine(hertz=997.0, amplitude=1.0, rate=48000, seconds=2.0, channels=1):
    wave = amplitude * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)
    return np.tile(wave.astype(np.float32), (channels, 1))


@pytest.mark.parametrize("rate", [44100, 48000, 96000])
def test_loudness_of_the_recommendation(rate):
    """A full-scale sine of 997 Hz in one channel is -3.01 LUFS, by definition; in two channels, 3.01 more."""
    assert loudness(_sine(rate=rate), rate) == pytest.approx(-3.01, abs=0.02)
    assert loudness(_sine(rate=rate, channels=2), rate) == pytest.approx(0.0, abs=0.02)
    assert loudness(_sine(rate=rate, amplitude=0.1), rate) == pytest.approx(-23.01, abs=0.02)


@pytest.mark.parametrize("hertz", [20, 38, 100, 1000, 2000, 10000])
def test_weighting(hertz):
    """What the two biquads of the recommendation do to a sine at 48 kHz, against 997 Hz."""
    b1, a1 = (1.53512485958697, -2.69169618940638, 1.19839281085285), (1.0, -1.69065929318241, 0.73248077421585)
    b2, a2 = (1.0, -2.0, 1.0), (1.0, -1.99004745483398, 0.99007225036621)

    def gain(f):
        z = np.exp(-2j * np.pi * f / 48000) ** np.arange(3)
        return 20 * np.log10(abs((b1 @ z) * (b2 @ z) / ((a1 @ z) * (a2 @ z))))

    found = loudness(_sine(hertz, seconds=8), 48000) - loudness(_sine(seconds=8), 48000)
    assert found == pytest.approx(gain(hertz) - gain(997), abs=0.05)


def test_loudness_is_gated():
    tone = _sine(amplitude=0.1)
    quiet = np.concatenate([tone, np.zeros_like(tone)], axis=1)
    assert loudness(quiet, 48000) == pytest.approx(loudness(tone, 48000), abs=0.5)  # Ungated it would be 3 less.
    assert loudness(np.zeros((2, 48000), np.float32), 48000) == -np.inf
    assert loudness(np.zeros((2, 0), np.float32), 48000) == -np.inf
    assert loudness(_sine(seconds=0.1), 48000) == pytest.approx(-3.0, abs=0.2)


def test_normalized_to_a_loudness():
    rng = np.random.default_rng(0)
    noise = (0.01 * rng.standard_normal((2, 44100))).astype(np.float32)
    finished = Finish("lufs", loudness=-20)(noise, 44100)
    assert finished.dtype == np.float32
    assert loudness(finished, 44100) == pytest.approx(-20, abs=0.1)


def test_the_limiter_never_clips():
    rng = np.random.default_rng(0)
    spiky = (0.05 * rng.standard_normal((2, 44100))).astype(np.float32)
    spiky[0, [0, 5000, 5100, 44099]] = [4.0, -9.0, 3.0, 2.0]
    held = limited(spiky, 44100)
    assert np.abs(held).max() <= 1
    # Not by cutting the tops off: far from the peaks nothing changed, and the gain has no steps.
    np.testing.assert_array_equal(held[:, 10_000:40_000], spiky[:, 10_000:40_000])
    with np.errstate(divide="ignore", invalid="ignore"):
        gain = held[1] / spiky[1]
    assert np.nanmax(np.abs(np.diff(gain))) < 0.01
    assert held[0, 5000] == pytest.approx(-1, abs=1e-3)
    loud = Finish("lufs", loudness=-3)(spiky, 44100)
    assert np.abs(loud).max() <= 1
    calm = spiky / np.float32(18)
    assert limited(calm, 44100) is calm


def test_fades():
    ones = np.ones((2, 1000), np.float32)
    both = faded(ones, 100, 300)
    assert both[0, 0] < 0.02
    assert both[0, -1] < 0.02
    assert np.all(np.diff(both[0, :100]) > 0)
    assert np.all(np.diff(both[1, -300:]) < 0)
    np.testing.assert_array_equal(both[:, 100:700], 1)
    assert ones.min() == 1
    assert faded(ones, 5000, 0).shape == (2, 1000)
    assert faded(np.zeros((2, 0), np.float32), 5, 5).shape == (2, 0)


def test_silence_is_trimmed():
    samples = np.zeros((2, 1000), np.float32)
    samples[1, 200:500] = 0.5
    samples[0, 900] = 0.0001
    assert without_silence(samples).shape == (2, 300)
    assert without_silence(np.zeros((2, 7), np.float32)).shape == (2, 7)


def test_mono():
    samples = np.stack([np.ones(10), np.zeros(10)]).astype(np.float32)
    np.testing.assert_array_equal(Finish("none", mono=True)(samples, 44100), np.full((1, 10), 0.5, np.float32))


@pytest.mark.parametrize("level", [0.0, 1e-9])
@pytest.mark.parametrize("mode", ["peak", "lufs", "none"])
def test_silence_stays_silence(mode, level):
    samples = np.full((2, 44100), level, np.float32)
    np.testing.assert_array_equal(Finish(mode, trim_silence=level == 0)(samples, 44100), samples)
