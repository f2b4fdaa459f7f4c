from __future__ import annotations

import gc
import threading
from dataclasses import replace

import numpy as np
import pytest
import soundfile

import sao_onnx
from sao_onnx.errors import OutputExistsError, RequestError
from sao_onnx.events import Conditioned, Decoded, Finished, Sampled
from sao_onnx.runtime.sessions import GraphSession, SessionFactory
from sao_onnx.stages.autoencoder import Decoder, Encoder
from sao_onnx.stages.conditioning import Conditioner
from sao_onnx.stages.denoiser import Denoiser
from tests.processes import GUARD


def test_a_clip(engine):
    clip = engine.generate("128 BPM tech house drum loop", seconds=2, seed=42)
    assert clip.samples.shape == (2, 88200)
    assert clip.samples.dtype == np.float32
    assert clip.sample_rate == 44100
    assert clip.seconds == 2
    assert clip.seed == 42
    assert clip.latents.shape == (8, engine.manifest.window_latents)
    assert abs(np.abs(clip.samples).max() - 1) < 1e-6
    assert clip.timings.sampling > 0
    assert clip.timings.decoding > 0
    assert clip.timings.encoding == 0
    assert clip.timings.total >= clip.timings.sampling + clip.timings.decoding


def test_the_same_seed_gives_the_same_clip(engine):
    first, second = (engine.generate("rain", seconds=1, seed=5) for _ in range(2))
    np.testing.assert_array_equal(first.samples, second.samples)
    assert not np.array_equal(first.latents, engine.generate("rain", seconds=1, seed=6).latents)
    assert not np.array_equal(first.latents, engine.generate("kick", seconds=1, seed=5).latents)


def test_a_drawn_seed_gives_the_clip_again(engine):
    clip = engine.generate("rain", seconds=1)
    np.testing.assert_array_equal(clip.samples, engine.generate("rain", seconds=1, seed=clip.seed).samples)


def test_stream(engine):
    events = list(engine.stream("rain", seconds=3.5, steps=3, seed=1))
    assert isinstance(events[0], Conditioned)
    assert events[0].steps == 3
    sampled = [event for event in events if isinstance(event, Sampled)]
    decoded = [event for event in events if isinstance(event, Decoded)]
    assert [(event.index, event.steps) for event in sampled] == [(0, 3), (1, 3), (2, 3)]
    assert [event.piece for event in decoded] == list(range(decoded[0].pieces))
    assert len(decoded) > 1
    assert [type(event) for event in events] == [
        Conditioned,
        *[Sampled] * 3,
        *[Decoded] * len(decoded),
        Finished,
    ]
    clip = events[-1].clip
    raw = np.concatenate([event.samples for event in decoded], axis=1)
    np.testing.assert_allclose(raw / np.abs(raw).max(), clip.samples, atol=1e-6)
    np.testing.assert_array_equal(sampled[-1].latents, clip.latents)


def test_stream_checks_the_request_at_once(engine):
    with pytest.raises(RequestError):
        engine.stream("rain", steps=0)


def test_an_abandoned_stream_drops_its_stage(miniature):
    engine = sao_onnx.load(miniature, precision="fp32", keep_loaded=False)
    events = engine.stream("rain", seed=1)
    next(events)
    next(events)
    events.close()
    assert all(stage._value is None for stage in (engine._conditioner, engine._denoiser, engine._decoder))


@pytest.mark.parametrize("keep", [True, False])
def test_keep_loaded(miniature, keep):
    engine = sao_onnx.load(miniature, precision="fp32", keep_loaded=keep)
    stages = {"conditioner": engine._conditioner, "denoiser": engine._denoiser, "decoder": engine._decoder}
    for event in engine.stream("rain", seconds=1, steps=2):
        loaded = {name for name, stage in stages.items() if stage._value is not None}
        if isinstance(event, Sampled):
            assert loaded == ({"conditioner", "denoiser"} if keep else {"denoiser"})
        if isinstance(event, Decoded):
            assert loaded == (set(stages) if keep else {"decoder"})
    assert all((stage._value is not None) == keep for stage in stages.values())
    engine.close()
    assert all(stage._value is None for stage in stages.values())
    assert engine.generate("rain", seconds=0.5, steps=1).samples.size


def test_a_dropped_stage_is_gone(miniature):
    """Not only let go of by its stage: nothing else may hold it, or memory would not peak at the largest stage."""
    engine = sao_onnx.load(miniature, keep_loaded=False)
    audio = (np.ones(1000, np.float32), 44100)
    kinds = (Conditioner, Encoder, Denoiser, Decoder)
    before = {id(thing) for thing in gc.get_objects() if type(thing) in kinds}
    for event in engine.stream("rain", seconds=1, steps=2, init_audio=audio):
        alive = {type(thing) for thing in gc.get_objects() if type(thing) in kinds and id(thing) not in before}
        if isinstance(event, Sampled):
            assert alive == {Denoiser}
        if isinstance(event, Decoded):
            assert alive == {Decoder}


@pytest.mark.parametrize("keep", [True, False])
def test_threads_get_the_same_samples(miniature, keep):
    engine = sao_onnx.load(miniature, precision="fp32", threads=1, keep_loaded=keep)
    expected = {seed: engine.generate("rain", seconds=1, steps=3, seed=seed).samples for seed in range(6)}
    found = {}

    def work(seed):
        found[seed] = engine.generate("rain", seconds=1, steps=3, seed=seed).samples

    threads = [threading.Thread(target=work, args=(seed,)) for seed in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(GUARD)
    for seed, samples in expected.items():
        np.testing.assert_array_equal(found[seed], samples)


@pytest.fixture(scope="module")
def decoder_graphs(engine):
    factory = SessionFactory(2)
    entries = [engine.manifest.graph(role, "fp32") for role in engine.manifest.decoder_roles]
    return [GraphSession(factory, engine.bundle.path(entry.path), entry) for entry in entries]


@pytest.mark.parametrize("tile", [1, 2, 3, 7, 32, 1000])
@pytest.mark.parametrize("piece", [1, 5, 32, 1000])
@pytest.mark.parametrize("length", [1, 2, 33, 64])
def test_tiles_equal_the_whole(engine, decoder_graphs, tile, piece, length):
    """For every size of tile and piece, the ends included, and with several tiles at once."""
    manifest, graphs = engine.manifest, decoder_graphs
    whole = latents = np.random.default_rng(length).standard_normal((1, 8, length), dtype=np.float32)
    for graph in graphs:
        (whole,) = graph.run(**{graph.inputs[0]: whole})
    stages = [manifest.decoder[0], *(replace(stage, tile=tile) for stage in manifest.decoder[1:])]
    decoder = Decoder(stages, manifest.latents.ratio, graphs, workers=2, piece=piece)
    pieces = list(decoder(latents, whole.shape[2]))
    assert len(pieces) == decoder.pieces(whole.shape[2])
    np.testing.assert_allclose(np.concatenate(pieces, axis=2), whole, rtol=0, atol=1e-5)


def test_decodes_only_what_is_wanted(engine):
    short = list(engine.stream("rain", seconds=0.5, steps=1, seed=1, normalize="none"))
    whole = list(engine.stream("rain", seconds=0.5, steps=1, seed=1, normalize="none", full_window=True))
    assert sum(isinstance(event, Decoded) for event in short) < sum(isinstance(event, Decoded) for event in whole)
    clip, full = short[-1].clip.samples, whole[-1].clip.samples
    assert clip.shape == (2, 22050)
    assert full.shape == (2, engine.manifest.audio.window)
    np.testing.assert_allclose(clip, full[:, :22050], atol=1e-5)


def test_short_window(engine):
    clip = engine.generate("rain", window_seconds=1, seed=1)
    assert clip.latents.shape == (8, 87)
    assert clip.samples.shape == (2, 87 * 512)


@pytest.mark.parametrize("sampler", ["pingpong", "euler", "dpmpp"])
def test_samplers(engine, sampler):
    assert np.isfinite(engine.generate("rain", seconds=0.5, steps=4, sampler=sampler).samples).all()


def test_guidance(engine):
    plain = engine.generate("rain", seconds=0.5, seed=1)
    guided = engine.generate("rain", seconds=0.5, seed=1, cfg_scale=4)
    against = engine.generate("rain", seconds=0.5, seed=1, cfg_scale=4, negative_prompt="kick")
    assert not np.allclose(plain.latents, guided.latents)
    assert not np.allclose(guided.latents, against.latents)
    same = engine.generate("rain", seconds=0.5, seed=1, cfg_scale=4, negative_prompt="rain")
    np.testing.assert_allclose(same.latents, plain.latents, atol=1e-4)


def test_audio_to_audio_takes_arrays_files_and_clips(engine, tmp_path):
    clip = engine.generate("rain", seconds=2, seed=1)
    path = tmp_path / "rain.wav"
    soundfile.write(path, clip.samples.T, clip.sample_rate, subtype="FLOAT")
    found = [
        engine.generate("kick", seconds=1, seed=2, init_audio=source, init_noise_level=0.5).latents
        for source in (clip, (clip.samples, clip.sample_rate), path, str(path))
    ]
    for latents in found[1:]:
        np.testing.assert_array_equal(latents, found[0])
    assert engine.generate("kick", seconds=1, seed=2, init_audio=clip).timings.encoding > 0


def test_noise_level_one_ignores_the_input(engine):
    a = engine.generate("kick", seconds=1, seed=2, init_audio=(np.ones(9000, np.float32), 44100), init_noise_level=1.0)
    b = engine.generate("kick", seconds=1, seed=2, init_audio=(np.zeros(9000, np.float32), 44100), init_noise_level=1.0)
    np.testing.assert_allclose(a.latents, b.latents, atol=1e-5)


def test_silence_stays_silence(engine, monkeypatch):
    monkeypatch.setattr(Decoder, "__call__", lambda self, latents, frames: iter([np.zeros((1, 2, frames), np.float32)]))
    clip = engine.generate("silence", seconds=0.5)
    assert not clip.samples.any()


def test_save(engine, tmp_path):
    clip = engine.generate("rain", seconds=0.5, seed=1)
    path = clip.save(tmp_path / "rain.wav")
    samples, rate = soundfile.read(path)
    assert rate == 44100
    np.testing.assert_allclose(samples.T, clip.samples, atol=1e-4)
    with pytest.raises(OutputExistsError):
        clip.save(path)
    clip.save(path, overwrite=True)


def test_a_cut_prompt_warns(engine):
    with pytest.warns(sao_onnx.SaoOnnxWarning, match="it was cut before"):
        engine.generate("kick " * 200, seconds=0.1, steps=1)


def test_public_names_are_there():
    assert set(sao_onnx.__all__) <= set(dir(sao_onnx))
    for name in sao_onnx.__all__:
        assert getattr(sao_onnx, name) is not None
    with pytest.raises(AttributeError):
        sao_onnx.nothing  # noqa: B018
