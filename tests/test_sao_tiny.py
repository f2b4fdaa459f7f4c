"""What sao-tiny is trained on and measured by: its sounds, its prompts, pitch, tempo, side and end of clips."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from models.sao_tiny import listen
from models.sao_tiny.data import training_sound, unseen_sound
from models.sao_tiny.features import BANDS, FRAMES, features
from models.sao_tiny.requests import (
    HIGHEST_NOTE,
    HIGHEST_TEMPO,
    KINDS,
    LOWEST_NOTE,
    LOWEST_TEMPO,
    WINDOW,
    Sound,
    describe,
    note_name,
    render,
)
from models.sao_tiny.signals import REPEAT, SAMPLE_RATE, frames, tuned
from models.sao_tiny.sounds import LOOPS, TONES, hertz

WHOLE = WINDOW / SAMPLE_RATE


def _render(seed=0, **facts):
    return render(np.random.default_rng(seed), Sound(**({"seconds": WHOLE} | facts)))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_sounds(kind):
    facts = {"kind": kind, "note": 60 * (kind in TONES), "tempo": 120 * (kind in LOOPS)}
    audio = _render(**facts)
    assert audio.shape == (2, WINDOW)
    assert audio.dtype == np.float32
    assert np.abs(audio).max() <= 0.96
    assert 0.1 < loudness(audio) < 0.125 or np.abs(audio).max() > 0.85
    np.testing.assert_array_equal(audio, _render(**facts))
    assert not np.array_equal(audio, _render(**facts, seed=1))
    short = _render(**facts, seconds=1.0)
    assert not short[:, frames(1.0) :].any()
    assert short[:, : frames(1.0)].any()


@pytest.mark.parametrize("kind", TONES)
@pytest.mark.parametrize("note", [LOWEST_NOTE, 57, 69, 83, HIGHEST_NOTE])
def test_pitch(kind, note):
    found = listen.pitch(_render(kind=kind, note=note))
    assert abs(1200 * np.log2(found / hertz(note))) < 15


@pytest.mark.parametrize("kind", LOOPS)
@pytest.mark.parametrize("tempo", [LOWEST_TEMPO, 97, 120, 151, HIGHEST_TEMPO])
def test_tempo(kind, tempo):
    assert listen.tempo(_render(kind=kind, tempo=tempo)) == pytest.approx(tempo, rel=0.02)


def test_sides_levels_and_ends():
    assert listen.side(_render(kind="rain", side="left")) > 12
    assert listen.side(_render(kind="rain", side="right")) < -12
    assert abs(listen.side(_render(kind="rain"))) < 1
    levels = [loudness(_render(kind="organ", note=60, level=level)) for level in ("soft", "", "loud")]
    assert levels[0] < 0.65 * levels[1] < 0.45 * levels[2]
    ends = [listen.end(_render(kind="snare", length=length)) for length in ("short", "", "long")]
    assert ends == sorted(ends)
    assert ends[2] > 2.5 * ends[0]
    assert listen.level_after(_render(kind="siren", seconds=2.0), 2.05) < -80
    dark, plain, bright = (_brightness(_render(kind="saw", note=48, tone=tone)) for tone in ("dark", "", "bright"))
    assert dark < plain < bright


def test_takes_differ_in_their_noise_alone():
    def take(number, **facts):
        return render(np.random.default_rng(0), Sound(seconds=WHOLE, **facts), number)

    for facts in ({"kind": "organ", "note": 60, "distant": True}, {"kind": "siren"}):
        np.testing.assert_array_equal(take(0, **facts), take(1, **facts))
    for facts in ({"kind": "rain"}, {"kind": "rock loop", "tempo": 100, "side": "left"}):
        first, second = take(0, **facts), take(1, **facts)
        assert listen.si_sdr(first, second) < 20
        np.testing.assert_array_equal(first, take(0, **facts))
        # Both channels are one signal.
        np.testing.assert_allclose(first[1], first[1].max() / first[0].max() * first[0], atol=1e-6)


def test_held_tones_repeat():
    for note in range(LOWEST_NOTE, HIGHEST_NOTE + 1):
        assert abs(1200 * np.log2(tuned(hertz(note)) / hertz(note))) < 9
    tone = _render(kind="saw", note=LOWEST_NOTE + 1)[0]
    np.testing.assert_allclose(tone[5000 : 5000 + REPEAT], tone[5000 + REPEAT : 5000 + 2 * REPEAT], atol=1e-4)


def loudness(audio):
    """Root mean square of the loudest fifth of a second, of the louder channel."""
    width = frames(0.2)
    return max(np.sqrt(np.convolve(np.square(row.astype(np.float64)), np.full(width, 1 / width)).max()) for row in audio)


def _brightness(audio):
    spectrum = np.abs(np.fft.rfft(audio[0]))
    return (spectrum * np.arange(len(spectrum))).sum() / spectrum.sum()


def test_measures_of_reconstruction():
    audio = _render(kind="bell", note=72)
    noise = np.random.default_rng(0).standard_normal(audio.shape) * np.sqrt(np.square(audio).mean()) / 10
    assert listen.si_sdr(0.3 * audio, audio) > 100
    assert listen.si_sdr(audio + noise, audio) == pytest.approx(20, abs=0.3)
    assert listen.stft_distance(audio, audio) == 0
    hiss = _render(kind="white noise")
    assert listen.stft_distance(2 * hiss, hiss) == pytest.approx(6.02, abs=0.2)


def test_names_of_notes():
    assert note_name(69) == "A4"
    assert note_name(LOWEST_NOTE) == "C2"
    assert note_name(HIGHEST_NOTE) == "C7"
    assert note_name(70) == "A#4"
    assert note_name(70, flat=True) == "Bb4"
    assert hertz(69) == 440


def test_prompts_say_what_is_true():
    for index in range(300):
        rng, sound = training_sound(index)
        prompt = describe(rng, sound).lower()
        facts = [sound.tone, sound.level, sound.length, sound.side]
        assert all(word in prompt.split() or word + "," in prompt.split() for word in facts if word), prompt
        if sound.tempo:
            assert str(sound.tempo) in prompt
        if sound.note:
            names = (note_name(sound.note), note_name(sound.note, flat=True), str(round(hertz(sound.note))))
            assert any(name.lower() in prompt for name in names)


def test_what_is_held_out_is_never_trained_on():
    trained = {training_sound(index)[1].combination for index in range(2000)}
    unseen = [unseen_sound(index)[1] for index in range(200)]
    assert not trained & {sound.combination for sound in unseen}
    assert {sound.kind for sound in unseen} >= set(TONES) | set(LOOPS)
    # Every kind and pitch is trained on somewhere.
    assert {training_sound(index)[1].kind for index in range(2000)} == set(KINDS)
    assert {training_sound(index)[1].note for index in range(2000)} >= set(range(LOWEST_NOTE, HIGHEST_NOTE + 1))
    assert not Sound("kick", WHOLE).held_out
    draws = [training_sound(index)[1].tempo for index in range(2000)]
    assert {tempo for tempo in draws if tempo} <= set(range(LOWEST_TEMPO, HIGHEST_TEMPO + 1))


def test_the_same_number_is_the_same_sound():
    assert training_sound(7)[1] == training_sound(7)[1]
    assert training_sound(7, "bell")[1].kind == "bell"


def test_features():
    tone = features(_render(kind="sine", note=69))
    assert tone.shape == (BANDS, FRAMES)
    assert 0 <= tone.min() < tone.max() <= 1
    np.testing.assert_allclose(tone, features(0.1 * _render(kind="sine", note=69)), atol=1e-5)
    # What is missing at the end counts as silence.
    assert features(_render(kind="sine", note=69)[:, :SAMPLE_RATE])[:, 60:].max() == 0


def test_numbers_tell_what_is_asked_for():
    import torch

    from models.sao_tiny.targets import NUMBERS, directions, numbers

    sounds = [training_sound(index)[1] for index in range(500)]
    said = numbers(sounds)
    assert said.shape == (500, NUMBERS)
    assert said.std(0).max() < 2
    for count in (61, 111):
        nearness = directions(count) @ directions(count).T - 2 * torch.eye(count)
        assert nearness.max() < 0.25
    asked = {sound: tuple(row.tolist()) for sound, row in zip(sounds, said, strict=True)}
    without_length = {dataclasses.replace(sound, seconds=0): row for sound, row in asked.items()}
    assert len(set(without_length.values())) == len(without_length)
