"""The trained model that comes with the package: does it still do what it is asked?

Few prompts, chosen from those that it did well when it was made; `models/sao_tiny/results.json` has how often it fails.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

import sao_onnx
from models.sao_tiny import listen
from models.sao_tiny.kind_classifier import KindClassifier
from sao_onnx.bundle.bundle import open_bundle
from sao_onnx.planning.loops import loop_seconds
from sao_onnx.provenance import read_provenance

FIRST_EDITION = Path(__file__).parent / "first_sao_tiny" / "manifest.json"


@pytest.fixture(scope="module")
def tiny() -> sao_onnx.Engine:
    return sao_onnx.load(threads=2, tuned=False)


@pytest.mark.parametrize(("prompt", "hertz"), [("A4 saw wave", 440.0), ("organ at C4", 261.63), ("220 Hz square wave", 220.0)])
def test_pitch(tiny, prompt, hertz):
    found = listen.pitch(tiny.generate(prompt, seed=1).samples)
    assert abs(1200 * np.log2(found / hertz)) < 50


@pytest.mark.parametrize(("prompt", "tempo"), [("120 BPM drum loop", 120), ("techno beat, 140 bpm", 140)])
def test_tempo(tiny, prompt, tempo):
    assert abs(listen.tempo(tiny.generate(prompt, seed=1).samples) / tempo - 1) < 0.03


@pytest.mark.parametrize(
    ("prompt", "kind"), [("kick drum", "kick"), ("ocean waves", "ocean waves"), ("siren", "siren"), ("coin pickup", "coin")]
)
def test_class(tiny, prompt, kind):
    assert KindClassifier().kind(tiny.generate(prompt, seed=1).samples) == kind


def test_side_and_end(tiny):
    assert listen.side(tiny.generate("saw wave at A3 on the left", seed=1).samples) > 6
    assert listen.side(tiny.generate("white noise, panned right", seed=1).samples) < -6
    whole = tiny.generate("white noise", seconds=2, seed=1, full_window=True).samples
    assert listen.level_after(whole, 2.1) < -40


@pytest.mark.parametrize("prompt", ["coin pickup", "water drop"])
def test_a_brief_sound_ends_and_nothing_clicks_at_the_end_of_the_window(tiny, prompt):
    clip = tiny.generate(prompt, seed=1, full_window=True)
    assert listen.end(clip.samples) < 1
    assert np.abs(clip.samples[:, -4410:]).max() < 10 ** (-45 / 20) * np.abs(clip.samples).max()


def test_the_bundle_is_small():
    bundle = sao_onnx.load().bundle
    assert bundle.size < 25_000_000
    assert bundle.manifest.precisions == ("int8",)
    # What is kept in half precision has lost little by it.
    halved = [graph for graph in bundle.manifest.graphs if graph.path.endswith(".half.onnx")]
    assert {graph.role for graph in halved} == {"encoder", *bundle.manifest.decoder_roles}
    assert all(graph.min_snr is not None and graph.snr > graph.min_snr for graph in halved)


def test_the_first_edition_still_opens(tmp_path):
    """Its manifest as it was, beside files of the sizes that it names."""
    (tmp_path / "manifest.json").write_bytes(FIRST_EDITION.read_bytes())
    for file in json.loads(FIRST_EDITION.read_text())["files"]:
        path = tmp_path / file["path"]
        path.parent.mkdir(exist_ok=True)
        with path.open("wb") as content:
            content.truncate(file["size"])
    bundle = open_bundle(tmp_path)
    assert bundle.manifest.precisions == ("int8",)
    assert (bundle.manifest.latents.channels, bundle.manifest.latents.ratio) == (128, 1024)
    assert sao_onnx.load(tmp_path).manifest.audio.window == 192 * 1024


def test_seeds_reproduce_and_differ(tiny):
    first, again, other = (tiny.generate("ocean waves", seed=seed).samples for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert listen.si_sdr(first, other) < 20


def test_a_loop_is_exact_in_time_and_joined(tiny):
    clip = tiny.generate("house drum loop", bpm=120, bars=2, seed=1)
    assert clip.samples.shape[1] == round(loop_seconds(120, 2, 4) * 44_100)
    twice = np.tile(clip.samples, 2)
    assert abs(listen.tempo(twice) / 120 - 1) < 0.03
    rough = np.abs(np.diff(twice, 2, axis=1)).max(axis=0)
    seam = clip.samples.shape[1]
    assert rough[seam - 64 : seam + 64].max() < 2 * np.quantile(rough, 0.999)


def test_kept_regions_stay(tiny):
    clip = tiny.generate("organ at C4", seed=1)
    again = tiny.generate("white noise", seed=2, init_audio=clip, regenerate=[(1.5, 3.0)])
    rate = clip.sample_rate
    for kept in (slice(0, round(1.4 * rate)), slice(round(3.1 * rate), None)):
        np.testing.assert_array_equal(again.samples[:, kept], clip.samples[:, kept])
    middle = slice(round(1.7 * rate), round(2.8 * rate))
    assert listen.si_sdr(again.samples[:, middle], clip.samples[:, middle]) < 5


def test_strength(tiny):
    tone = tiny.generate("organ at C4", seed=1, normalize="none")
    near, far = (tiny.generate("ocean waves", seed=1, init_audio=tone, init_noise_level=level) for level in (0.12, 1.0))
    assert KindClassifier().kind(far.samples) == "ocean waves"
    assert abs(1200 * np.log2(listen.pitch(near.samples) / 261.63)) < 50
    assert listen.si_sdr(near.samples, tone.samples) > listen.si_sdr(far.samples, tone.samples) + 10


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".opus", ".mp3"])
def test_tags_bring_a_clip_back(tiny, tmp_path, suffix):
    clip = tiny.generate("laser", seconds=1.5, seed=9, steps=4)
    path = tmp_path / f"laser{suffix}"
    clip.save(path)
    info = soundfile.info(path)
    assert abs(info.frames / info.samplerate - 1.5) < 0.06
    recipe = read_provenance(path)
    again = tiny.generate(recipe.prompt, seed=recipe.seed, **recipe.options)
    np.testing.assert_array_equal(again.samples, clip.samples)
