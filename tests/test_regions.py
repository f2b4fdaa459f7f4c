"""Keeping parts of a recording while the rest is made anew."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from sao_onnx.errors import RequestError
from sao_onnx.events import Decoded
from sao_onnx.planning.regions import kept, weights
from tests.processes import COMMAND, run
from tests.recordings import tones


def test_what_is_kept():
    assert kept(None, None, 10) is None
    assert kept([(8, 10), (0, 3)], None, 10) == ((0, 3), (8, 10))
    assert kept([(0, 3), (2, 4), (4, 5)], None, 10) == ((0, 5),)
    assert kept(None, [(3, 8)], 10) == ((0, 3), (8, 10))
    assert kept(None, [(0, 2), (5, 10)], 10) == ((2, 5),)
    assert kept(None, [(0, 10)], 10) == ()
    assert kept([(9, 10.0005)], None, 10) == ((9, 10),)


@pytest.mark.parametrize(
    ("keep", "regenerate", "message"),
    [
        ([(0, 1)], [(2, 3)], "exclude each other"),
        ([(0, 11)], None, "a region ends at 11 s, and the clip at 10.000 s"),
        ([(0, 10)], None, "everything would be kept"),
        ([(0, 6), (5, 10)], None, "everything would be kept"),
        (None, [], "everything would be kept"),
    ],
)
def test_bad_regions(keep, regenerate, message):
    with pytest.raises(RequestError, match=message):
        kept(keep, regenerate, 10)


def test_weights():
    found = weights(((0, 3), (8, 10)), 100, 10, 0.5, 10)
    assert found.dtype == np.float32
    np.testing.assert_allclose(
        found[[0, 24, 25, 29, 30, 79, 80, 84, 85, 99]], [1, 1, 0.9, 0.1, 0, 0, 0.1, 0.9, 1, 1], atol=1e-6
    )
    # Behind the clip as at its end.
    assert weights(((8, 10),), 120, 10, 0.5, 10)[-1] == 1
    assert weights((), 5, 10, 0.5, 10).sum() == 0


@pytest.fixture(scope="module")
def recording():
    return tones(3.0)


def test_kept_regions_come_back_as_they_were(engine, recording):
    samples, rate = recording
    options = {"init_audio": recording, "seconds": 3.0, "seed": 4, "steps": 4}
    clip = engine.generate("rain", keep=[(0, 1), (2.5, 3)], **options)
    same = np.s_[:, : rate - round(0.03 * rate) - 1]
    np.testing.assert_array_equal(clip.samples[same], samples[same])
    late = np.s_[:, round(2.53 * rate) + 1 :]
    np.testing.assert_array_equal(clip.samples[late], samples[late])
    middle = np.s_[:, rate : round(2.5 * rate)]
    assert np.abs(clip.samples[middle] - samples[middle]).mean() > 0.01
    other = engine.generate("rain", regenerate=[(1, 2.5)], **options)
    np.testing.assert_array_equal(other.samples, clip.samples)
    assert clip.provenance.options["keep"] == ((0, 1), (2.5, 3))


def test_no_click_at_the_seams(engine, recording):
    """Steps from one frame to the next are no larger around a seam than elsewhere."""
    _, rate = recording
    clip = engine.generate("rain", keep=[(0, 1)], init_audio=recording, seconds=2.0, seed=4, steps=4)
    steps = np.abs(np.diff(clip.samples.astype(np.float64), axis=1)).max(axis=0)
    seam = steps[round(0.96 * rate) : round(1.02 * rate)]
    assert seam.max() <= 1.2 * max(steps[: round(0.9 * rate)].max(), steps[round(1.1 * rate) :].max())


def test_pieces_are_kept_as_well(engine, recording):
    events = list(engine.stream("rain", keep=[(0, 2)], init_audio=recording, seconds=3.0, seed=4, steps=2))
    pieces = np.concatenate([event.samples for event in events if isinstance(event, Decoded)], axis=1)
    np.testing.assert_array_equal(pieces, events[-1].clip.samples)


def test_kept_latents_guide_the_rest(engine, recording):
    """What is made depends on what is kept."""
    samples, rate = recording
    options = {"keep": [(0, 1)], "seconds": 2.0, "seed": 4, "steps": 4}
    one = engine.generate("rain", init_audio=recording, **options)
    two = engine.generate("rain", init_audio=(0.2 * samples[::-1].copy(), rate), **options)
    ratio = engine.manifest.latents.ratio
    after = np.s_[:, round(1.1 * rate / ratio) : round(2 * rate / ratio)]
    assert np.abs(one.latents[after] - two.latents[after]).max() > 1e-3
    same = engine.generate("rain", init_audio=(samples.copy(), rate), **options)
    np.testing.assert_array_equal(same.latents, one.latents)


def test_normalizing_what_is_kept_must_be_asked_for(engine, recording):
    options = {"keep": [(0, 1)], "init_audio": recording, "seconds": 2.0, "seed": 4, "steps": 2}
    assert np.abs(engine.generate("rain", **options).samples[:, :40000]).max() < 0.31
    assert np.abs(engine.generate("rain", normalize="peak", **options).samples).max() == pytest.approx(1)


def test_needs_initial_audio(engine):
    for option in ("keep", "regenerate"):
        with pytest.raises(RequestError, match="need initial audio"):
            engine.generate("rain", **{option: [(0, 1)]})


def test_the_command(miniature, recording, tmp_path):
    samples, rate = recording
    soundfile.write(tmp_path / "tone.wav", samples.T, rate, subtype="FLOAT")

    def gen(*arguments):
        return run([COMMAND, "gen", *arguments, "--model", miniature], cwd=tmp_path)

    shared = ("--init", "tone.wav", "--seconds", 3, "--bits", 32)
    assert gen("rain", "-o", "a.wav", *shared, "--keep", "0:1", "--keep", "2:3").returncode == 0
    assert gen("--from", "a.wav", "-o", "b.wav", "--bits", 32).returncode == 0
    found, again = (soundfile.read(tmp_path / name, dtype="float32")[0] for name in ("a.wav", "b.wav"))
    np.testing.assert_array_equal(found, again)
    np.testing.assert_array_equal(found[: rate - 2000], samples.T[: rate - 2000])
    bad = gen("rain", "-o", "c.wav", *shared, "--regenerate", "2:5")
    assert bad.returncode == 2
    assert "a region ends at 5 s, and the clip at 3.000 s" in bad.stderr
    assert not (tmp_path / "c.wav").exists()
