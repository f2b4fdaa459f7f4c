"""The training of sao-tiny: its sounds, its prompts, its ears, and a run that is cut off and goes on."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.sao_tiny import listen
from models.sao_tiny.data import training_sound, unseen_sound
from models.sao_tiny.features import BANDS, FRAMES, features
from models.sao_tiny.loop import Muon, Schedule, fit, orthogonal
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
from models.sao_tiny.signals import SAMPLE_RATE, frames
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
    assert np.isfinite(audio).all()
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
    assert levels[0] < 0.5 * levels[1] < 0.3 * levels[2]
    ends = [listen.end(_render(kind="snare", length=length)) for length in ("short", "", "long")]
    assert ends == sorted(ends)
    assert ends[2] > 2.5 * ends[0]
    assert listen.level_after(_render(kind="siren", seconds=2.0), 2.05) < -80
    dark, plain, bright = (_brightness(_render(kind="saw", note=48, tone=tone)) for tone in ("dark", "", "bright"))
    assert dark < plain < bright


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


def _untrained(audio):
    """The autoencoder of one channel as training begins, and its configuration."""
    from models.sao_tiny.halves import half
    from models.sao_tiny.lapped import begin
    from models.sao_tiny.train import HERE
    from sao_onnx_convert.config import load_config

    config = load_config(HERE / "model_config.json").model.pretransform.config
    torch.manual_seed(0)
    model = half(config)
    begin(model, audio, config.encoder.config.strides)
    return model.requires_grad_(False), config


def _channels(count, **facts):
    return torch.from_numpy(np.stack([_render(seed=seed, **facts)[:1, : 32 * 1024] for seed in range(count)]))


def test_a_lapped_autoencoder_works_untrained():
    audio = _channels(4, kind="kick")
    model, _ = _untrained(audio)
    mean, stdev = model.encode(audio)
    assert listen.si_sdr(model.decoder(mean).numpy(), audio.numpy()) > 6
    assert stdev.median() < 0.2


def test_scaled_latents_decode_to_the_same():
    from models.sao_tiny.autoencoder import LATENT_SIZE, standardize

    audio = _channels(2, kind="saw", note=50)
    model, _ = _untrained(audio)
    before = model.decoder(model.encode(audio)[0])
    standardize(model, audio)
    mean, _ = model.encode(audio)
    torch.testing.assert_close(mean.square().mean((0, 2)).sqrt() / LATENT_SIZE, torch.ones(mean.shape[1]), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(model.decoder(mean), before, rtol=1e-3, atol=1e-5)


def test_the_stereo_autoencoder_is_twice_that_of_one_channel():
    from models.sao_tiny.halves import whole

    audio = torch.from_numpy(_render(kind="clap", side="left")[:, : 16 * 1024])
    one, config = _untrained(_channels(2, kind="clap"))
    both = whole(config, one)
    means, deviations = one.encode(audio[:, None])
    mean, deviation = both.encode(audio[None])
    pairs = [(mean[0], means.flatten(0, 1)), (deviation[0], deviations.flatten(0, 1))]
    pairs.append((both.decoder(mean)[0], one.decoder(means)[:, 0]))
    for stereo, single in pairs:
        assert (stereo - single).norm() < 1e-4 * single.norm()


def test_waves_count_where_they_can_be_followed():
    from models.sao_tiny.autoencoder import low_power

    seconds = torch.arange(4096) / SAMPLE_RATE
    waves = torch.stack([torch.sin(2 * torch.pi * hertz * seconds) for hertz in (323.0, 12059.0)])
    assert low_power(waves).tolist() == pytest.approx([0.5, 0.5 / 260], rel=0.05)


def test_gradient_of_power_spectra():
    from models.sao_tiny.autoencoder import _Power

    window = torch.hann_window(16, dtype=torch.float64)
    signal = torch.randn(2, 64, dtype=torch.float64, requires_grad=True, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(lambda x: _Power.apply(x, window), signal)


def test_muon_steps_are_orthogonal():
    gradient = torch.randn(8, 24, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonal(gradient))
    assert values.min() > 0.6
    assert values.max() < 1.3
    weight = torch.nn.Parameter(torch.zeros(8, 4, 6))
    weight.grad = gradient.view(8, 4, 6)
    Muon([weight], lr=0.1).step()
    assert float(weight.detach().square().mean().sqrt()) == pytest.approx(0.1 * 0.2, rel=0.25)


def test_training_goes_on_where_it_was_cut_off(tmp_path, monkeypatch):
    monkeypatch.setattr("models.sao_tiny.loop.SAVE_EVERY", 0.0)

    def run(folder, stop=None):
        torch.manual_seed(0)
        model = torch.nn.Linear(4, 4)
        optimizers = [Muon([model.weight], lr=0.01), torch.optim.AdamW([model.bias], lr=0.01)]

        def losses(step):
            if step == stop:
                raise KeyboardInterrupt
            return {"loss": (model(torch.randn(8, 4)) - 1).square().mean()}

        folder.mkdir(exist_ok=True)
        fit("toy", folder, model, optimizers, Schedule(steps=20, rate=1.0, warmup=5), losses, lambda _: None)
        return model

    whole = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", stop=12)
    resumed = run(tmp_path / "cut")
    torch.testing.assert_close(resumed.weight, whole.weight)
    torch.testing.assert_close(resumed.bias, whole.bias)
    again = run(tmp_path / "cut", stop=0)
    torch.testing.assert_close(again.weight, whole.weight)
