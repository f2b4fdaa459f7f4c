"""What measures sao-tiny: each measure on signals of which the answer is known, and on the synthesizer's own sounds."""

from __future__ import annotations

import numpy as np
import pytest

from models.sao_tiny import quality, timbre
from models.sao_tiny.evaluate import table
from models.sao_tiny.measure_autoencoder import Reconstruction, figures, measure, named, reconstructions
from models.sao_tiny.picture import bands, request
from models.sao_tiny.requests import KINDS, WINDOW, Sound, render
from models.sao_tiny.signals import SAMPLE_RATE, filtered, frames, harmonics, tuned
from models.sao_tiny.sounds import LOOPS, STYLES, TONES, hertz
from sao_onnx.audio.picture import FLOOR

WHOLE = WINDOW / SAMPLE_RATE
NOTES = (36, 47, 60, 75, 96)


def _render(seed=0, **facts):
    return render(np.random.default_rng(seed), Sound(**({"seconds": WHOLE} | facts)))


def _stereo(mono):
    return np.stack([mono, 0.5 * mono])


def _tone(pitch, weights, seconds=2.0):
    return harmonics(pitch, frames(seconds), np.asarray(weights, float))


def _noise(count, seed=0):
    return np.random.default_rng(seed).standard_normal(count)


def _band_noise(tone, decibels):
    """Noise from 30 Hz to 12 kHz, so loud against a tone."""
    noise = filtered(_noise(len(tone)), lambda f: (f >= 30) & (f <= 12_000))
    return noise * np.sqrt(np.square(tone).mean() / np.square(noise).mean()) * 10 ** (decibels / 20)


# -- partials -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("note", NOTES)
def test_partials_that_were_changed(note):
    pitch = tuned(hertz(note))
    weights = 1 / np.arange(1.0, 100)
    changed = weights.copy()
    gains = {1: -2.0, 2: 6.0, 5: -20.0}
    for rank, gain in gains.items():
        changed[rank - 1] *= 10 ** (gain / 20)
    found = timbre.partial_differences(
        _stereo(_tone(pitch, changed)), _stereo(_tone(pitch, weights)), timbre.harmonics_of(pitch, 6000)
    )
    expected = [gains.get(rank, 0.0) for rank in range(1, int(6000 / pitch) + 1)]
    assert found == pytest.approx(expected, abs=0.1)


def test_partials_too_faint_or_too_high_do_not_count():
    reference = _stereo(_tone(1000.0, [1, 0, 0.1, 10 ** (-50 / 20), 10 ** (-40 / 20), 0, 0.5]))
    partials = timbre.harmonics_of(1000.0, 6000)
    assert timbre.partial_differences(0.5 * reference, reference, partials) == pytest.approx([-6.02] * 3, abs=0.05)
    assert len(timbre.partial_differences(reference, reference, partials, within=60)) == 4
    assert len(timbre.partial_differences(reference, reference, partials, highest=2000)) == 1


def test_a_lost_partial_is_far_off():
    reference, clip = (_stereo(_tone(220.0, weights)) for weights in ([1, 1, 1], [1, 0, 1]))
    found = timbre.partial_differences(clip, reference, timbre.harmonics_of(220.0, 6000))
    assert found[1] < -60
    assert timbre.partial_differences(np.zeros((2, 88_200)), reference, np.array([220.0]))[0] < -60


def test_a_tone_too_short_to_part_its_partials():
    short = _stereo(_tone(65.0, [1, 1, 1], seconds=0.15))
    assert len(timbre.partial_differences(short, short, timbre.harmonics_of(65.0, 6000))) == 0
    assert np.isnan(timbre.noise_between(short, 65.0))


@pytest.mark.parametrize("kind", TONES)
@pytest.mark.parametrize("note", NOTES)
def test_partials_of_the_synthesizer_are_where_they_are_looked_for(kind, note):
    sound = Sound(kind, WHOLE, note=note)
    audio = _render(kind=kind, note=note)
    found = timbre.partial_differences(audio, audio, quality.partials(sound))
    assert len(found) >= (1 if kind == "sine" or note == 96 else 2)
    assert not found.any()
    darker = _render(kind=kind, note=note, tone="dark", level="")
    if kind in ("saw", "square", "organ") and note < 90:
        differences = timbre.partial_differences(darker, audio, quality.partials(sound))
        assert differences[0] > differences[-1] + 3


# -- noise between partials ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("note", NOTES)
@pytest.mark.parametrize("decibels", [-50, -30, -12, 0])
def test_noise_of_known_level(note, decibels):
    tone = _tone(tuned(hertz(note)), 1 / np.arange(1.0, 200))
    assert timbre.noise_between(_stereo(tone + _band_noise(tone, decibels)), hertz(note)) == pytest.approx(decibels, abs=1.5)


def test_noise_is_told_from_a_pitch_that_is_a_little_off():
    tone = _tone(110.0 * 2 ** (30 / 1200), 1 / np.arange(1.0, 100))
    assert timbre.noise_between(_stereo(tone), 110.0) < -60


@pytest.mark.parametrize("kind", quality.HARMONIC)
@pytest.mark.parametrize("note", NOTES)
def test_tones_of_the_synthesizer_are_clean(kind, note):
    assert timbre.noise_between(_render(kind=kind, note=note), hertz(note)) < -60


@pytest.mark.parametrize("facts", [{"level": "loud"}, {"distant": True}, {"level": "loud", "distant": True}])
@pytest.mark.parametrize("note", NOTES)
def test_what_a_reference_has_itself_is_no_noise(facts, note):
    # Loud tones are distorted, with aliases between their partials; distant ones ring in a room.
    audio = _render(kind="saw", note=note, **facts)
    assert timbre.noise_between(audio, hertz(note), audio) < -50
    noisy = audio + _band_noise(audio[0], -25).astype(np.float32)
    assert timbre.noise_between(noisy, hertz(note), audio) == pytest.approx(-25, abs=2.5)


def test_noise_alone_and_silence_are_no_tones():
    assert timbre.noise_between(_stereo(_noise(88_200)), 220.0) > 3
    assert timbre.noise_between(np.zeros((2, 88_200)), 220.0) == pytest.approx(0)


# -- slope --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "truth"), [("white noise", 0.0), ("pink noise", -3.01), ("brown noise", -6.02)])
@pytest.mark.parametrize("facts", [{}, {"length": "short"}, {"level": "loud"}, {"side": "right"}, {"seconds": 1.0}])
def test_slope_of_noises(kind, truth, facts):
    assert timbre.slope(_render(kind=kind, **facts)) == pytest.approx(truth, abs=0.3)


@pytest.mark.parametrize("truth", [-9.0, 2.0])
def test_slope_of_any_noise(truth):
    noise = filtered(_noise(2 * SAMPLE_RATE), lambda f: np.maximum(f, 20) ** (truth / 20 / np.log10(2)))
    assert timbre.slope(_stereo(noise)) == pytest.approx(truth, abs=0.2)


def test_no_slope_without_sound():
    assert np.isnan(timbre.slope(np.zeros((2, SAMPLE_RATE))))
    assert np.isnan(timbre.slope(_stereo(np.pad(_noise(2000), (0, 40_000)))))


# -- attack -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("milliseconds", [5, 10, 20, 40])
@pytest.mark.parametrize("start", [0, 3000])
def test_attack_of_a_ramp(milliseconds, start):
    count = frames(0.3)
    ramp = np.minimum(1.0, np.arange(count) / (milliseconds / 1000 * SAMPLE_RATE))
    audio = _stereo(np.pad(ramp * np.sin(np.arange(count)), (start, 0)))
    assert 1000 * timbre.attack_time(audio) == pytest.approx(0.8 * milliseconds, abs=0.25)


def test_attacks_of_drums():
    for kind in quality.DRUMS:
        times = [1000 * timbre.attack_time(_render(seed, kind=kind)) for seed in range(5)]
        # Any of the bursts of a clap may be the first loud one.
        assert np.median(times) < (36 if kind == "clap" else 2), kind
        assert min(times) < 1.5, kind


def test_what_creeps_in_before_a_stroke_belongs_to_its_attack():
    snare = np.pad(_render(kind="snare"), ((0, 0), (1000, 0)))
    crept = snare.copy()
    crept[:, 780:1000] += 0.2 * snare.max() * _noise(220)
    assert timbre.attack_time(crept) > timbre.attack_time(snare) + 0.003
    assert np.isnan(timbre.attack_time(np.zeros((2, 1000))))


# -- floor --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "facts",
    [*({"kind": f"{style} loop", "tempo": 75} for style in STYLES if style != "hip hop")]
    + [{"kind": kind} for kind in ("alarm", "telephone", "clock", "footsteps", "kick", "coin")],
    ids=lambda facts: facts["kind"],
)
def test_floor_of_known_level(facts):
    audio = _render(**facts)
    assert timbre.floor_between(audio, [audio], WHOLE) < -55
    hundredths = np.square(audio[0, : WINDOW // 4410 * 4410].astype(float)).reshape(-1, 4410).mean(axis=1)
    noise = _noise(WINDOW) * np.sqrt(hundredths.max())
    for decibels in (-45, -25):
        found = timbre.floor_between(audio + 10 ** (decibels / 20) * noise, [audio], WHOLE)
        assert found == pytest.approx(decibels, abs=1)


def test_what_never_rests_has_no_floor():
    for kind in ("rain", "organ", "siren"):
        audio = _render(kind=kind, note=60 * (kind in TONES))
        assert np.isnan(timbre.floor_between(audio, [audio], WHOLE))


def test_only_the_asked_length_counts_and_every_reference():
    audio = _render(kind="kick", seconds=1.0)
    loud_later = audio.copy()
    loud_later[:, frames(1.0) + 500 :] = 0.1
    assert timbre.floor_between(loud_later, [audio], 1.0) == timbre.floor_between(audio, [audio], 1.0)
    assert np.isnan(timbre.floor_between(audio, [audio, _render(kind="rain", seconds=1.0)], 1.0))


# -- what applies to which kind -----------------------------------------------------------------------------------------


def _facts(kind):
    return {"kind": kind, "note": 60 * (kind in TONES), "tempo": 100 * (kind in LOOPS)}


@pytest.mark.parametrize("kind", KINDS)
def test_another_sound_of_the_synthesizer_is_well_done(kind):
    sound = Sound(**_facts(kind), seconds=WHOLE)
    references = [_render(seed, **_facts(kind)) for seed in range(5)]
    found = quality.measure(sound, _render(7, **_facts(kind)), references)
    assert ("noise between partials" in found) == (kind in TONES and kind != "bell")
    assert ("slope error" in found) == (kind in quality.NOISES)
    assert ("attack error" in found) == (kind in quality.DRUMS)
    for name, value in found.items():
        assert value <= quality.MEASURES[name].bound, name


@pytest.mark.parametrize("kind", ["saw", "white noise", "snare", "clap"])
def test_silence_is_never_well_done(kind):
    facts = _facts(kind) | {"length": "short"}
    found = quality.measure(Sound(**facts, seconds=WHOLE), np.zeros((2, WINDOW), np.float32), [_render(**facts)])
    assert len(found) == 2
    assert all(value > quality.MEASURES[name].bound for name, value in found.items())


def test_summary_of_clips():
    found = quality.summary([{"slope error": 0.5}, {"slope error": 0.75, "noise floor": -50.0}, {"slope error": 3.0}])
    assert found == {
        "slope error": {"median": 0.75, "share": 0.6667, "of": 3},
        "noise floor": {"median": -50.0, "share": 1.0, "of": 1},
    }


# -- the autoencoder ----------------------------------------------------------------------------------------------------


def test_a_perfect_autoencoder():
    found = measure(lambda audio: audio, len(KINDS))
    assert found["class"] > 0.9
    assert found["si_sdr of tones"] > 80
    assert found["noise between partials"] < -50
    for name in (
        "partials within 3 dB",
        "tones within 3 dB",
        "side kept",
        "slope error within bound",
        "noise floor within bound",
    ):
        assert found[name] == 1.0, name
    for name in ("stft distance", "worst partial", "slope error", "attack error"):
        assert found[name] == 0.0, name
    units = dict(named(found))
    assert units["class"].endswith(" %")
    assert units["slope error"] == "0.0 dB an octave"
    assert units["noise between partials, at most -40 dB"] == "100.0 %"


def test_what_an_autoencoder_does_to_sounds():
    def worse(audio):
        # Treble lost, noise a fifth as loud as the sound, the right channel half as loud.
        dull = filtered(audio[0], lambda f: 1 / (1 + (f / 1000) ** 2))
        dull = dull + 0.2 * dull.std() * _noise(WINDOW)
        return np.stack([dull, 0.5 * dull * (audio[1].std() / audio[0].std())]).astype(np.float32)

    found = measure(worse, len(KINDS))
    assert found["class"] < 0.9
    assert found["partials within 3 dB"] < 0.6
    assert found["worst partial"] > 6
    assert -30 < found["noise between partials"] < -10
    assert found["side kept"] == 0
    assert found["slope error"] > 2
    assert found["noise floor within bound"] < 0.1


def test_autoencoder_is_given_unseen_sounds_of_all_kinds():
    given = []
    asked = []

    def mapped(function, indices):
        asked.extend(indices)
        return map(function, asked)

    def same(audio):
        given.append(audio)
        return audio

    found = list(reconstructions(same, 3, mapped))
    assert asked == [0, 1, 2]
    assert [clip.sound.kind for clip in found] == list(KINDS[:3])
    assert all(clip.sound.held_out for clip in found)
    assert all(audio.shape == (2, WINDOW) and audio.dtype == np.float32 for audio in given)


def test_figures_leave_out_what_there_is_nothing_of():
    clip = Reconstruction(Sound("rain", WHOLE), "wind", 3.0, 2.0, -4.0, np.zeros(0), {})
    assert figures([clip]) == {"class": 0.0, "si_sdr": 3.0, "stft distance": 2.0, "side kept": 0.0}


# -- what is shown ------------------------------------------------------------------------------------------------------


def test_table_of_two_precisions():
    def result(share, heard):
        return {
            "checks": {"class": {"share": share, "of": 10}},
            "two seeds": {"differ": 1.0, "both in class": 0.5, "of": 60},
            "quality": heard,
            "reconstruction": {"class": 0.9, "si_sdr": 6.06, "slope error": 0.8, "slope error within bound": 0.75},
        }

    lines = list(
        table({"int8": result(0.5, {}), "fp32": result(0.6, {"noise floor": {"median": -61.0, "share": 1.0, "of": 7}})})
    )
    assert lines[:3] == ["| | int8 | fp32 |", "|---|---|---|", "| class | 50.0 % of 10 | 60.0 % of 10 |"]
    assert "| noise floor, median |  | -61.0 dB |" in lines
    assert "| noise floor, at most -40 dB |  | 100.0 % of 7 |" in lines
    assert "| autoencoder, si_sdr | 6.1 dB | 6.1 dB |" in lines
    assert "| autoencoder, slope error, at most 1 dB an octave | 75.0 % | 75.0 % |" in lines
    assert not [line for line in lines if line.count("|") != 4]


@pytest.mark.parametrize("size", [1024, 4096])
@pytest.mark.parametrize("pitch", [220.0, 1000.0, 9000.0])
def test_picture_shows_a_tone_at_its_pitch(size, pitch):
    decibels, edges = bands(_stereo(_tone(pitch, [1.0])).astype(np.float32), size)
    row = decibels[:, decibels.shape[1] // 2].argmax()
    assert edges[row] / 1.12 < pitch < edges[row + 1] * 1.12
    assert decibels.max() == 0
    assert decibels.min() == FLOOR


def test_pictures_of_kinds_ask_for_what_they_show():
    assert [request(kind).kind for kind in KINDS] == list(KINDS)
    assert request("saw").note
    assert request("rock loop").tempo
    assert not request("rain").note
