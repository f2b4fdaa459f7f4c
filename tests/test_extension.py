"""A recording that goes on past its end, and past the window."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
from sao_onnx.planning.windows import Window, windows

from sao_onnx.errors import RequestError
from sao_onnx.events import Conditioned, Finished
from tests.processes import COMMAND, run

RATE = 44100


@pytest.fixture(scope="module")
def recording():
    times = np.arange(2 * RATE) / RATE
    return np.stack([np.sin(2 * np.pi * 220 * times), np.sin(2 * np.pi * 330 * times)]).astype(np.float32) * 0.3, RATE


def test_windows():
    assert windows(1000, 300, 1000, 100) == [Window(700, 300)]
    assert windows(1000, 500, 1000, 100) == [Window(500, 500)]
    assert windows(1000, 1200, 1000, 100) == [Window(500, 500), Window(500, 500), Window(800, 200)]
    # From a short recording the first window adds more.
    assert windows(100, 1300, 1000, 100) == [Window(100, 900), Window(600, 400)]
    for length, added in ((50, 7), (999, 12_345), (5000, 1)):
        found = windows(length, added, 1000, 100)
        assert sum(window.added for window in found) == added
        so_far = length
        for window in found:
            assert 0 < window.overlap <= so_far
            assert window.overlap + window.added <= 1000
            so_far += window.added


def test_extended_past_the_window(engine, recording):
    samples, _ = recording
    window = engine.manifest.audio.window
    clip = engine.generate("rain", init_audio=recording, extend=6.5, seed=3, steps=2)
    assert clip.samples.shape == (2, round(8.5 * RATE))
    assert clip.samples.shape[1] > window
    same = np.s_[:, : 2 * RATE - round(0.03 * RATE) - 1]
    np.testing.assert_array_equal(clip.samples[same], samples[same])
    steps = np.abs(np.diff(clip.samples.astype(np.float64), axis=1)).max(axis=0)
    for seam in (2 * RATE, window):
        around = steps[seam - 3000 : seam + 3000]
        elsewhere = max(steps[: 2 * RATE - 3000].max(), np.quantile(steps[2 * RATE + 3000 :], 0.9999))
        assert around.max() <= 1.3 * elsewhere
    assert clip.timings.sampling > 0
    assert clip.provenance.options == {"extend": 6.5, "steps": 2}


def test_events_of_an_extension(engine, recording):
    events = list(engine.stream("rain", init_audio=recording, extend=3.9, seed=3, steps=1))
    begun = [event for event in events if isinstance(event, Conditioned)]
    assert [(event.window, event.windows) for event in begun] == [(0, 2), (1, 2)]
    assert [type(event) for event in events].count(Finished) == 1
    assert isinstance(events[-1], Finished)


def test_seeds_count_on(engine, recording):
    """The second window alone, from what there was after the first."""
    whole = engine.generate("rain", init_audio=recording, extend=4.0, seed=3, steps=2)
    first = windows(2 * RATE, 4 * RATE, engine.manifest.audio.window, RATE)[0]
    so_far = whole.samples[:, : 2 * RATE + first.added]
    second = engine.generate("rain", init_audio=(so_far, RATE), extend=4.0 - first.added / RATE, seed=4, steps=2)
    np.testing.assert_allclose(second.samples[:, -1000:], whole.samples[:, -1000:], atol=0.02)


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
    with pytest.raises(RequestError, match="a tenth of a second is the least"):
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
