from __future__ import annotations

import gc
import itertools
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import soundfile

import sao_onnx
from sao_onnx.bundle.manifest import Sampling
from sao_onnx.errors import OutputExistsError, RequestError
from sao_onnx.events import Conditioned, Decoded, Finished, Sampled
from sao_onnx.request import Request
from sao_onnx.running.progress import MeasuredPace, Pace
from sao_onnx.running.runner import run
from sao_onnx.running.stages import Stages
from sao_onnx.runtime.sessions import GraphSession, SessionFactory
from sao_onnx.stages.autoencoder import Decoder, Encoder
from sao_onnx.stages.conditioning import Conditioner
from sao_onnx.stages.denoiser import Denoiser
from tests.processes import GUARD
from tests.recordings import tones

STAGES = (Conditioner, Encoder, Denoiser, Decoder)


class Alive:
    """Which stages have come to life since this was made, and are not gone."""

    def __init__(self):
        # The objects themselves: the number of one that died could become that of a new one.
        self._before = self._all()

    @staticmethod
    def _all():
        return [thing for thing in gc.get_objects() if type(thing) in STAGES]

    def __call__(self):
        gc.collect()
        return {type(thing) for thing in self._all() if not any(thing is old for old in self._before)}


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


def test_a_request_instead_of_a_prompt(engine):
    request = Request("rain", seconds=0.5, seed=5, steps=2, mono=True)
    clip = engine.generate(request)
    np.testing.assert_array_equal(clip.samples, engine.generate("rain", seconds=0.5, seed=5, steps=2, mono=True).samples)
    other = engine.generate(request, seed=6, mono=False)
    np.testing.assert_array_equal(other.samples, engine.generate("rain", seconds=0.5, seed=6, steps=2).samples)
    last = list(engine.stream(request, steps=1))[-1]
    np.testing.assert_array_equal(last.clip.latents, engine.generate("rain", seconds=0.5, seed=5, steps=1).latents)
    assert (request.seed, request.steps, request.mono) == (5, 2, True)


def test_stream(engine):
    events = list(engine.stream("rain", seconds=3.5, steps=3, seed=1))
    assert isinstance(events[0], Conditioned)
    assert events[0].steps == 3
    sampled = [event for event in events if isinstance(event, Sampled)]
    decoded = [event for event in events if isinstance(event, Decoded)]
    assert [(event.index, event.steps) for event in sampled] == [(0, 3), (1, 3), (2, 3)]
    assert [event.piece for event in decoded] == list(range(decoded[0].pieces))
    assert len(decoded) > 1
    assert [type(event) for event in events] == [Conditioned, *[Sampled] * 3, *[Decoded] * len(decoded), Finished]
    clip = events[-1].clip
    raw = np.concatenate([event.samples for event in decoded], axis=1)
    np.testing.assert_allclose(raw / np.abs(raw).max(), clip.samples, atol=1e-6)
    np.testing.assert_array_equal(sampled[-1].latents, clip.latents)


@pytest.mark.parametrize(
    "options",
    [
        {"seconds": 3.5, "steps": 3},
        {"seconds": 0.5, "steps": 5, "cfg_scale": 3},
        {"bpm": 120, "bars": 1, "steps": 1},
        {"init_audio": tones(2.0), "extend": 4.0, "steps": 2},
        {"init_audio": tones(2.0), "keep": [(0, 1)], "steps": 2},
        {"latents": np.ones((8, 20), np.float32), "steps": 2},
    ],
    ids=["plain", "guidance", "loop", "extension", "inpainting", "latents"],
)
def test_fractions_rise_to_one_over_the_whole_clip(miniature, options):
    engine = sao_onnx.load(miniature, precision="fp32", threads=1)
    for _ in range(2):  # At first by the built-in pace, then by what was measured.
        fractions = [event.fraction for event in engine.stream("rain", seed=1, **options)]
        assert 0 < fractions[0] < 1
        assert all(before < after for before, after in itertools.pairwise(fractions[:-1]))
        # All that is left behind the last piece is to finish the clip.
        assert fractions[-2] == pytest.approx(1)
        assert fractions[-1] == 1


def test_guidance_and_windows_count_in_the_fraction(miniature):
    """A step of two passes is as long as two steps."""
    pace = Pace(load=0, conditioning=0, encoding=0, step=1, decoding_start=0, decoding=1)
    engine = sao_onnx.load(miniature, precision="fp32", threads=1)
    planned = engine.plan(Request("rain", seconds=87 * 512 / 44100, window_seconds=1, steps=4, seed=1, cfg_scale=3))
    provenance = engine.generate("rain", seconds=0.1, steps=1).provenance
    stages = Stages(engine.bundle, "fp32", engine.tuning, SessionFactory(1), keep_loaded=False)
    events = run(planned, stages, provenance, MeasuredPace(pace))
    sampled = [event.fraction for event in events if isinstance(event, Sampled)]
    assert sampled == pytest.approx([2 / 9, 4 / 9, 6 / 9, 8 / 9])


@pytest.mark.parametrize(
    "options",
    [{"seconds": 1, "mono": True}, {"init_audio": tones(2.0), "extend": 3}, {"bpm": 120, "bars": 1, "cfg_scale": 2}],
    ids=["plain", "extension", "loop"],
)
def test_a_plan_that_was_sent_gives_the_same_clip(engine, options):
    """As a process on another machine would carry it out."""
    request = Request("rain", seed=5, steps=2, **options)
    expected = engine.generate(request)
    stages = Stages(engine.bundle, engine.precision, engine.tuning, SessionFactory(engine.threads), keep_loaded=False)
    sent = pickle.loads(pickle.dumps(engine.plan(request)))
    *_, last = run(sent, stages, expected.provenance, MeasuredPace())
    assert isinstance(last, Finished)
    np.testing.assert_array_equal(last.clip.samples, expected.samples)
    assert last.clip.seed == 5


def test_an_abandoned_stream_drops_its_stage(miniature):
    engine = sao_onnx.load(miniature, precision="fp32", keep_loaded=False)
    alive = Alive()
    events = engine.stream("rain", seed=1)
    next(events)
    next(events)
    assert alive() == {Denoiser}
    events.close()
    assert alive() == set()


@pytest.mark.parametrize("keep", [True, False])
def test_keep_loaded(miniature, keep):
    engine = sao_onnx.load(miniature, precision="fp32", keep_loaded=keep)
    alive = Alive()
    for event in engine.stream("rain", seconds=1, steps=2, init_audio=(np.ones(1000, np.float32), 44100)):
        # Not only let go of by its stage: nothing else may hold it, or memory would not peak at the largest stage.
        if isinstance(event, Sampled):
            assert alive() == ({Conditioner, Encoder, Denoiser} if keep else {Denoiser})
        if isinstance(event, Decoded):
            assert alive() == (set(STAGES) if keep else {Decoder})
    assert alive() == (set(STAGES) if keep else set())
    engine.unload()
    assert alive() == set()
    assert engine.generate("rain", seconds=0.5, steps=1).samples.size


def test_unloading_while_a_stream_is_under_way(miniature):
    """What is in use is let go of when it is no longer used."""
    engine = sao_onnx.load(miniature, precision="fp32")
    alive = Alive()
    events = engine.stream("rain", seconds=1, steps=2, seed=3)
    next(events)
    next(events)
    engine.unload()
    assert alive() == {Denoiser}
    for event in events:
        if isinstance(event, Decoded):
            assert alive() == {Decoder}
    assert isinstance(event, Finished)
    np.testing.assert_array_equal(event.clip.samples, engine.generate("rain", seconds=1, steps=2, seed=3).samples)
    engine.unload()
    assert alive() == set()


def test_an_engine_as_a_context(miniature):
    alive = Alive()
    with sao_onnx.load(miniature) as engine:
        engine.generate("rain", seconds=0.1, steps=1)
        assert alive() == {Conditioner, Denoiser, Decoder}
    assert alive() == set()
    with pytest.raises(RequestError), sao_onnx.load(miniature) as engine:
        list(engine.generate_many(["rain", "kick"], seconds=0.1, steps=1, seed=2**32 - 1))
    assert alive() == set()
    assert "'miniature', int8" in repr(engine)


@pytest.mark.parametrize("keep", [True, False])
def test_threads_get_the_same_samples(miniature, keep):
    engine = sao_onnx.load(miniature, precision="fp32", threads=1, keep_loaded=keep)
    expected = [engine.generate("rain", seconds=1, steps=3, seed=seed).samples for seed in range(6)]
    together = threading.Barrier(6, timeout=GUARD)

    def work(seed):
        together.wait()
        return engine.generate("rain", seconds=1, steps=3, seed=seed).samples

    with ThreadPoolExecutor(6) as pool:
        for samples, alone in zip(pool.map(work, range(6)), expected, strict=True):
            np.testing.assert_array_equal(samples, alone)


@pytest.fixture(scope="module")
def decoder_graphs(engine):
    factory = SessionFactory(2)
    entries = [engine.manifest.graph(role, "fp32") for role in engine.manifest.decoder_roles]
    return [GraphSession(factory, engine.bundle.path(entry.path), entry) for entry in entries]


@pytest.fixture(scope="module", params=[1, 33, 64])
def decoded_whole(request, decoder_graphs):
    """Latents, and what all of the decoder makes of them at once."""
    whole = latents = np.random.default_rng(request.param).standard_normal((1, 8, request.param), dtype=np.float32)
    for graph in decoder_graphs:
        (whole,) = graph.run(**{graph.inputs[0]: whole})
    return latents, whole


@pytest.mark.parametrize("tile", [1, 3, 7, 1000])
@pytest.mark.parametrize("piece", [1, 5, 1000])
def test_tiles_equal_the_whole(engine, decoder_graphs, decoded_whole, tile, piece):
    """For every size of tile and piece, the ends included, and with several tiles at once."""
    manifest, (latents, whole) = engine.manifest, decoded_whole
    stages = [manifest.decoder[0], *(replace(stage, tile=tile) for stage in manifest.decoder[1:])]
    decoder = Decoder(stages, manifest.latents.ratio, decoder_graphs, workers=2, piece=piece)
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


def test_the_sampler_that_is_asked_for(engine):
    found = {name: engine.generate("rain", seconds=0.5, steps=4, seed=1, sampler=name).latents for name in ("euler", "dpmpp")}
    found["pingpong"] = engine.generate("rain", seconds=0.5, steps=4, seed=1).latents
    for one, other in (("euler", "dpmpp"), ("euler", "pingpong"), ("dpmpp", "pingpong")):
        assert np.abs(found[one] - found[other]).max() > 0.01


def test_a_model_of_the_other_objective(miniature):
    """Its own defaults, and the same arithmetic, as in the reference."""
    engine = sao_onnx.load(miniature, precision="fp32", threads=2)
    same = engine.generate("rain", seconds=0.5, seed=1, steps=6, sampler="euler", cfg_scale=7)
    manifest = replace(engine.manifest, sampling=Sampling("rectified_flow", "euler", 6, 7.0))
    engine.bundle = replace(engine.bundle, manifest=manifest)
    np.testing.assert_array_equal(engine.generate("rain", seconds=0.5, seed=1).samples, same.samples)


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
    np.testing.assert_array_equal(a.latents, b.latents)


def test_a_prompt_that_is_cut_warns(engine):
    with pytest.warns(sao_onnx.SaoOnnxWarning, match="it was cut before"):
        engine.generate("kick " * 200, seconds=0.1, steps=1)


def test_save(engine, tmp_path):
    clip = engine.generate("rain", seconds=0.5, seed=1)
    path = clip.save(tmp_path / "rain.wav")
    samples, rate = soundfile.read(path)
    assert rate == 44100
    np.testing.assert_allclose(samples.T, clip.samples, atol=1 / 32768)
    with pytest.raises(OutputExistsError):
        clip.save(path)
    clip.save(path, overwrite=True)
