"""A recording that goes on past its end, and past the window."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from sao_onnx.errors import RequestError
from sao_onnx.events import Conditioned, Finished
from sao_onnx.planning.extension import Placement, extension
from sao_onnx.request import Request
from tests.processes import COMMAND, run
from tests.recordings import RATE, tones


@pytest.fixture(scope="module")
def recording():
    return tones(2.0)


def test_windows():
    assert extension(1000, 300, 1000, 100) == [Placement(300, 700, 300)]
    assert extension(1000, 500, 1000, 100) == [Placement(500, 500, 500)]
    assert extension(1000, 1200, 1000, 100) == [Placement(500, 500, 500), Placement(1000, 500, 500), Placement(1200, 800, 200)]
    # From a short recording the first window adds more.
    assert extension(100, 1300, 1000, 100) == [Placement(0, 100, 900), Placement(400, 600, 400)]
    for length, added in ((50, 7), (999, 12_345), (5000, 1)):
        found = extension(length, added, 1000, 100)
        assert sum(window.added for window in found) == added
        so_far = length
        for window in found:
            assert 0 < window.kept <= so_far
            assert window.start == so_far - window.kept
            assert window.kept + window.added <= 1000
            so_far += window.added


@pytest.mark.parametrize(("length", "added"), [(1000, 0), (1000, -1), (9, 100)])
def test_what_cannot_be_extended(length, added):
    with pytest.raises(RequestError, match=r"shorter than one frame|extend needs at least 0\.1 s of audio"):
        extension(length, added, 1000, 100)


def test_extended_past_the_window(engine, recording):
    samples, _ = recording
    clip = engine.generate("rain", init_audio=recording, extend=6.5, seed=3, steps=2)
    assert clip.samples.shape == (2, round(8.5 * RATE))
    assert clip.samples.shape[1] > engine.manifest.audio.window
    same = np.s_[:, : 2 * RATE - round(0.03 * RATE) - 1]
    np.testing.assert_array_equal(clip.samples[same], samples[same])
    assert clip.timings.sampling > 0
    assert clip.timings.encoding > 0
    assert clip.provenance.options == {"extend": 6.5, "steps": 2}


def test_the_seam_is_a_cross_fade(engine, recording):
    """From the recording to what was decoded, over the last 30 ms of the recording."""
    samples, _ = recording
    options = {"init_audio": recording, "extend": 1.5, "seed": 3, "steps": 2}
    clip = engine.generate("rain", **options)
    (window,) = engine.plan(Request("rain", **options)).windows
    made = engine.decode(clip.latents)[:, : window.frames]
    fade = round(0.03 * RATE)
    seam = 2 * RATE - window.start
    share = np.zeros(window.frames, np.float32)
    share[:seam] = 1
    share[seam - fade : seam] = 1 - (np.arange(fade) + 0.5) / fade
    known = np.pad(samples[:, window.start :], ((0, 0), (0, window.frames - seam)))
    np.testing.assert_allclose(clip.samples[:, window.start :], share * known + (1 - share) * made, atol=1e-4)


def test_events_of_an_extension(engine, recording):
    events = list(engine.stream("rain", init_audio=recording, extend=3.9, seed=3, steps=1))
    begun = [event for event in events if isinstance(event, Conditioned)]
    assert [(event.window, event.windows) for event in begun] == [(0, 2), (1, 2)]
    assert [type(event) for event in events].count(Finished) == 1
    assert isinstance(events[-1], Finished)


def test_seeds_count_on(engine, recording):
    """Each window is what it would be alone, with its own seed, behind what there was before it."""
    whole = engine.generate("rain", init_audio=recording, extend=3.0, seed=3, steps=2)
    first, second = extension(2 * RATE, 3 * RATE, engine.manifest.audio.window, RATE)
    begun = engine.generate("rain", init_audio=recording, extend=first.added / RATE, seed=3, steps=2)
    alone = engine.generate("rain", init_audio=begun, extend=second.added / RATE, seed=4, steps=2)
    np.testing.assert_array_equal(alone.samples, whole.samples)
    other = engine.generate("rain", init_audio=begun, extend=second.added / RATE, seed=3, steps=2)
    assert np.abs(other.samples - whole.samples).max() > 0.01


def test_only_what_is_added_depends_on_init_start(engine, recording):
    samples, _ = recording
    part = engine.generate("rain", init_audio=recording, init_start=1.0, extend=1.0, seed=3, steps=1)
    alone = engine.generate("rain", init_audio=(samples[:, RATE:], RATE), extend=1.0, seed=3, steps=1)
    np.testing.assert_array_equal(part.samples, alone.samples)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"extend": 0}, "extend is 0, expected more than 0 and at most 3600 seconds"),
        ({"extend": 4000}, "extend is 4000"),
        ({"extend": float("inf")}, "extend is inf"),
        ({"extend": 1, "seconds": 2}, "seconds does not go with extend"),
        ({"extend": 1, "keep": [(0, 1)]}, "keep does not go with extend"),
        ({"extend": 9, "seed": 2**32 - 1}, "or less for"),
        ({"extend": 1, "sampler": "x"}, "sampler is 'x'"),
        ({"extend": 1, "fade_in": -1}, "fade_in is -1"),
    ],
)
def test_bad_extensions(engine, recording, options, message):
    with pytest.raises(RequestError, match=message):
        engine.stream("rain", init_audio=recording, **options)


def test_nothing_to_go_on_from(engine):
    with pytest.raises(RequestError, match="needs initial audio"):
        engine.generate("rain", extend=1)
    with pytest.raises(RequestError, match=r"extend needs at least 0\.1 s of audio"):
        engine.generate("rain", extend=1, init_audio=(np.zeros((2, 100)), RATE))


def test_the_command(miniature, recording, tmp_path):
    soundfile.write(tmp_path / "tone.wav", recording[0].T, RATE, subtype="FLOAT")

    def gen(*arguments):
        return run([COMMAND, "gen", "--model", miniature, "--bits", "32", *arguments], cwd=tmp_path)

    done = gen("rain", "--init", "tone.wav", "--extend", "3", "--steps", "2", "-o", "a.wav")
    assert done.returncode == 0, done.stderr
    assert gen("--from", "a.wav", "-o", "b.wav").returncode == 0
    found, again = (soundfile.read(tmp_path / name, dtype="float32")[0] for name in ("a.wav", "b.wav"))
    assert len(found) == 5 * RATE
    np.testing.assert_array_equal(found, again)
