"""What a generation returns: shown in a line, heard in a notebook, and its latents in and out."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace

import numpy as np
import pytest
import soundfile

import sao_onnx
from sao_onnx.errors import AudioFileError
from sao_onnx.provenance import read_provenance
from sao_onnx.request import Request
from sao_onnx.running.loading import load_conditioner, load_denoiser
from sao_onnx.runtime.sessions import SessionFactory
from sao_onnx.sampling.noise import Noise
from sao_onnx.sampling.objectives import OBJECTIVES
from sao_onnx.stages.autoencoder import Encoder


@pytest.fixture(scope="module")
def clip(engine):
    return engine.generate("rain", seconds=0.5, seed=3, steps=2)


def test_is_shown_in_a_line(clip):
    assert repr(clip) == "Clip('rain', 0.50 s, 2 channels at 44100 Hz, seed 3)"


def test_is_heard_in_a_notebook(clip):
    prompt = '<script>alert("rain & wind")</script>'
    shown = replace(clip, provenance=replace(clip.provenance, prompt=prompt))._repr_html_()
    assert "<script>" not in shown
    assert "&lt;script&gt;alert(&quot;rain &amp; wind&quot;)&lt;/script&gt; · seed 3" in shown
    assert "<audio controls" in shown
    (audio,) = re.findall('src="data:audio/wav;base64,([^"]+)"', shown)
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(audio)))
    assert rate == 44100
    np.testing.assert_allclose(samples.T, clip.samples, atol=1 / 32768)


@pytest.mark.parametrize("bits", [24, np.int64(24), 24.0])
def test_bits_are_recorded_as_a_number_of_json(clip, tmp_path, bits):
    path = clip.save(tmp_path / "a.wav", bits=bits)
    assert read_provenance(path) == replace(clip.provenance, bits=24)
    with pytest.raises(AudioFileError, match="leave the bits out"):
        clip.save(tmp_path / "a.ogg", bits=0)


def test_latents_of_a_clip_start_another(miniature, clip, monkeypatch):
    """Without the encoder, and as they are: with noise of the first sigma over them."""

    def touched(*_, **__):
        raise AssertionError("the encoder was used")

    monkeypatch.setattr(Encoder, "__call__", touched)
    engine = sao_onnx.load(miniature, precision="fp32", threads=2)
    made = engine.generate("kick", latents=clip.latents, seconds=0.5, seed=7, steps=1, init_noise_level=0.4)
    assert made.timings.encoding == 0

    # By hand: one step of ping-pong from there.
    objective = OBJECTIVES["rf_denoiser"]
    noise = Noise(7)
    x = objective.add_noise(clip.latents[None], noise.normal((1, *clip.latents.shape)), np.float32(0.4))
    predict = _network(engine, "kick", 0.5)
    expected = objective.denoised(x, predict(x, np.float32(0.4)), np.float32(0.4))
    np.testing.assert_allclose(made.latents, expected[0], atol=1e-5)
    np.testing.assert_allclose(made.samples, _peak(engine.decode(expected[0], 0.5)), atol=1e-5)
    assert made.provenance.init_audio == ""


def _network(engine, prompt, seconds):
    factory = SessionFactory(2)
    conditioning = load_conditioner(engine.bundle, "fp32", factory)([prompt], {"seconds_total": [seconds]})
    return load_denoiser(engine.bundle, "fp32", factory).prediction(conditioning)


def _peak(samples):
    return samples / np.abs(samples).max()


def test_latents_without_a_level_start_from_the_default_one(engine, clip):
    default = engine.generate("kick", latents=clip.latents, seconds=0.5, seed=7, steps=2)
    same = engine.generate("kick", latents=clip.latents, seconds=0.5, seed=7, steps=2, init_noise_level=0.7)
    np.testing.assert_array_equal(default.samples, same.samples)
    fresh = engine.generate("kick", seconds=0.5, seed=7, steps=2)
    ignored = engine.generate("kick", latents=clip.latents, seconds=0.5, seed=7, steps=2, init_noise_level=1.0)
    np.testing.assert_allclose(ignored.latents, fresh.latents, atol=1e-5)


def test_latents_of_another_length_are_cut_or_padded(engine, clip):
    short = clip.latents[:, :50]
    padded = np.pad(short, ((0, 0), (0, clip.latents.shape[1] - 50)))
    one, other = (engine.generate("kick", latents=start, seconds=0.5, seed=7, steps=1) for start in (short, padded))
    np.testing.assert_array_equal(one.latents, other.latents)
    longer = engine.generate("kick", latents=clip.latents, window_seconds=0.5, seed=7, steps=1)
    assert longer.latents.shape[1] < clip.latents.shape[1]


def test_regions_of_latents_are_kept(engine, clip):
    """What is kept of latents comes back as latents."""
    made = engine.generate("kick", latents=clip.latents, keep=[(0, 1)], seconds=2.0, seed=7, steps=3)
    kept = engine.plan(Request("kick", latents=clip.latents, keep=[(0, 1)], seconds=2.0, seed=7, steps=3))
    weights = kept.latent_weights(kept.windows[0])
    assert (weights == 1).sum() > 50
    np.testing.assert_allclose(made.latents[:, weights == 1], clip.latents[:, weights == 1], atol=1e-4)
    assert np.abs(made.latents - clip.latents)[:, weights == 0].max() > 0.1
