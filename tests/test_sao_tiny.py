"""The training of sao-tiny: its sounds, its prompts, its ears, and a run that is cut off and goes on."""

from __future__ import annotations

import dataclasses

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


def test_the_decoder_goes_on_alone(tmp_path, monkeypatch):
    from models.sao_tiny import autoencoder

    monkeypatch.setattr(autoencoder, "SOUNDS", 8)
    monkeypatch.setattr(autoencoder, "BATCH", 2)
    monkeypatch.setattr(autoencoder, "STEADY", Schedule(steps=3, rate=0.5, warmup=1))
    monkeypatch.setenv("CXX", "none")
    model, _ = _untrained(_channels(2, kind="kick"))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    autoencoder.steady(model, tmp_path, torch.device("cpu"), lambda _: None)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert all(name.startswith("decoder.") for name in changed)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert (tmp_path / "decoder.pt").is_file()


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


def test_pairs_of_noisy_and_clean_latents():
    from models.sao_tiny.diffusion import pair

    torch.manual_seed(0)
    mean, noise = torch.randn(2, 2, 8, 4000), torch.randn(2, 2, 8, 4000)
    # Half of the latents are noise, three times as loud on the left.
    deviation = torch.zeros_like(mean)
    deviation[:, 0, 4:], deviation[:, 1, 4:] = 1.5, 0.5
    pure, clean = pair(mean, deviation, noise, torch.ones(2))
    torch.testing.assert_close(pure, noise, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(clean[:, :, :4], mean[:, :, :4])
    torch.testing.assert_close((clean - mean)[:, 0, 4:], 3 * (clean - mean)[:, 1, 4:], rtol=1e-3, atol=1e-4)
    assert (clean - mean)[:, 0, 4:].std() == pytest.approx(1.5, rel=0.02)
    for level in (0.9, 0.5, 0.1):
        noisy, same = pair(mean, deviation, noise, torch.full((2,), level))
        torch.testing.assert_close(same, clean)
        spread = (noisy - (1 - level) * mean)[:, 0].std(dim=(0, 2))
        # What latents drawn on their own would have.
        assert spread[:4].tolist() == pytest.approx([level] * 4, rel=0.03)
        assert spread[4:].tolist() == pytest.approx([np.hypot((1 - level) * 1.5, level)] * 4, rel=0.03)


@pytest.fixture(scope="module")
def begun():
    """A transformer as training begins, and the prompts that it was begun with: texts of which the last token says a note."""
    from models.sao_tiny.beginning import Examples, begin
    from models.sao_tiny.code import NUMBERS, numbers
    from models.sao_tiny.diffusion import Denoiser
    from models.sao_tiny.train import HERE
    from sao_onnx_convert.config import load_config

    config = load_config(HERE / "model_config.json")
    torch.manual_seed(0)
    model = Denoiser(config).requires_grad_(False)
    count, width = 2000, config.model.conditioning.cond_dim
    # Every other prompt asks for a note, the others for a tempo.
    notes, tempos = (torch.arange(count) % 61 + LOWEST_NOTE), (torch.arange(count) % 111 + LOWEST_TEMPO)
    notes[::2], tempos[1::2] = 0, 0
    said = numbers(
        [
            Sound("sine", WHOLE, note=note) if note else Sound("rock loop", WHOLE, tempo=tempo)
            for note, tempo in zip(notes.tolist(), tempos.tolist(), strict=True)
        ]
    )
    ends = torch.randint(3, 20, (count,))
    texts = torch.randn(count, 32, width) + torch.randn(width)
    texts[torch.arange(32) > ends[:, None]] = 0
    texts[torch.arange(count), ends] += 3 * said @ torch.randn(NUMBERS, width) + 4 * torch.randn(width)
    begin(model.dit, model.seconds, Examples(texts, ends, said, notes, tempos), 1024)
    return model, texts, ends, notes, tempos


def test_training_begins_with_latents_passing_through(begun):
    model, texts, *_ = begun
    x = torch.randn(4, 128, 192)
    velocity = model(x, torch.ones(4), texts[:4], torch.full((4,), 3.0), torch.ones(4))
    torch.testing.assert_close(velocity, x, rtol=1e-4, atol=1e-4)


def test_training_begins_with_places_as_waves(begun):
    table = begun[0].dit.transformer.pos_emb.emb.weight
    waves = table[1:, 128:191] / 16
    torch.testing.assert_close(waves[:64], waves[64:128], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(waves[:64].T @ waves[:64], 64 * torch.eye(63), rtol=1e-2, atol=0.05)
    assert not table[0].any()
    assert torch.linalg.matrix_rank(table[:, 128:212]) == 84


def test_training_begins_silent_after_the_end(begun):
    model, texts, *_ = begun
    seen = []
    first = model.dit.transformer.layers[2].ff.ff[0].proj
    handle = first.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0], output.chunk(2, dim=-1)[1])))
    model(torch.randn(4, 128, 192), torch.ones(4), texts[:4], torch.full((4,), 2.0), torch.ones(4))
    handle.remove()
    tokens, gates = seen[0]
    end = round(2.0 * SAMPLE_RATE / 1024)
    # Notes and places fall silent; latents go on.
    holding_latents = first.weight.chunk(2)[0][:, :128].any(dim=1)
    assert gates[:, end + 10 :, ~holding_latents].quantile(0.999) < 0
    assert gates[:, 1 : end - 5, ~holding_latents].max() > 2
    assert gates[:, end + 10 :, holding_latents].max() > 0.5
    # No channel is so large that 8 bits would leave nothing of the others.
    assert tokens[:, end + 10 :].abs().max() < 1.5 * tokens[:, 1 : end - 5].abs().max()


def test_neighbours_learn_together():
    from models.sao_tiny.beginning import PARTIALS, _held, shared_between_neighbours
    from models.sao_tiny.train import HERE
    from sao_onnx_convert.config import load_config
    from sao_onnx_convert.networks.dit import DiffusionTransformer

    dit = DiffusionTransformer(load_config(HERE / "model_config.json").model.diffusion.config)
    shared_between_neighbours(dit, 1024)
    first = dit.transformer.layers[1].ff.ff[0].proj
    held = _held(PARTIALS[1], 64)
    own = [index for index, unit in enumerate(held) if unit.slot == 0]
    middle = own[30]
    # Only the gate of one unit is asked to change, and what it holds.
    (first.weight[1024 + 2 * middle].sum() + first.weight[2 * middle].sum()).backward()
    changed = first.weight.grad[1024:].abs().sum(1)
    notes = torch.tensor([unit.note for unit in held])
    of_partial = torch.tensor([unit.slot == 0 for unit in held])
    assert changed[2 * middle] == changed.max()
    assert changed[2 * own[31]] > 0.9 * changed.max() > 0
    assert changed[: 2 * len(held)].view(-1, 2)[~of_partial].max() == 0
    far = (notes - notes[middle]).abs() > 20
    assert changed[: 2 * len(held)].view(-1, 2)[far].max() < 1e-4 * changed.max()
    # What notes hold stays.
    assert not first.weight.grad[: 2 * len(held)].any()


def test_numbers_tell_what_is_asked_for():
    from models.sao_tiny.code import NUMBERS, directions, numbers

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


def test_training_begins_with_the_prompt_told(begun):
    model, texts, ends, notes, tempos = begun
    lengths = torch.linspace(0.5, 4.4, len(texts))
    tokens = torch.cat([texts, model.seconds(lengths)], dim=1)
    keys, _ = model.dit.context(tokens)
    block = model.dit.transformer.layers[0]
    for head, there in ((0, ends), (3, torch.full_like(ends, 32))):
        logits = keys[0, :, :, 64 * head : 64 * (head + 1)] @ block.cross_attn.q_norm.bias / 8
        assert (logits.argmax(-1) == there).float().mean() > 0.99
    seen = []
    model.dit.transformer.layers[1].ff_norm.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    gates = []
    block = model.dit.transformer.layers[1]
    block.ff.ff[0].proj.register_forward_hook(lambda module, inputs, output: gates.append(output.chunk(2, dim=-1)[1]))
    chosen = slice(0, 400)
    model(torch.randn(400, 128, 192), torch.ones(400), texts[chosen], torch.full((400,), 4.4), torch.ones(400))
    # The first units are the lowest note's, ten in a row, and then the next one's.
    openings = gates[0][:, 10, :10].mean(-1)
    lowest = notes[chosen] == LOWEST_NOTE
    assert openings[lowest].mean() > 2
    assert openings[notes[chosen] != LOWEST_NOTE].quantile(0.9) < 0
    # In the middle of the window: what the beat has come to.
    asked = tempos[chosen] > 0
    turns = tempos[chosen][asked, None] / 60 * torch.arange(80, 100) * 1024 / SAMPLE_RATE
    beat = torch.cos(2 * torch.pi * turns)
    found = seen[0][asked, 81:101, 249]
    assert torch.corrcoef(torch.stack([beat.flatten(), found.flatten()]))[0, 1] > 0.8


def test_moments_of_takes():
    from models.sao_tiny.moments import TAKES, _moments, _takes

    indices = {sound: index for index in range(200) if (sound := training_sound(index)[1].kind)}
    assert _takes(indices["sine"]).shape[0] == 1
    assert _takes(indices["rain"]).shape[0] == TAKES
    noise = np.random.default_rng(0).standard_normal((TAKES, 2, 50_000)).astype(np.float32)
    noise[:, 1] *= 3
    mean, deviation = _moments(lambda audio: (audio,), 5 + noise, torch.device("cpu")).astype(np.float64)
    assert deviation[0].mean() == pytest.approx(1, abs=0.01)
    assert deviation[1].mean() == pytest.approx(3, abs=0.03)
    assert mean.mean() == pytest.approx(5, abs=0.02)
    # A sound in the middle has the same latents twice; one that has no noise in it, no deviation.
    mean, deviation = _moments(lambda audio: (audio,), noise[:1, :1], torch.device("cpu"))
    np.testing.assert_array_equal(mean[0], mean[1])
    assert not deviation.any()
