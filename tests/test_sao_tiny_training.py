"""The training of sao-tiny: sounds that become ready meanwhile, what is learned of them, a run that is cut off and goes on.

A step that is captured for a GPU can only be tried on one; here every step runs as it is written.
"""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any, cast

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from models.sao_tiny import (
    autoencoder,
    data,
    decoder,
    diffusion,
    edges,
    initial_weights,
    latents,
    listen,
    loop,
    measure_state,
    states,
    text,
    train,
)
from models.sao_tiny.data import MAX_TOKENS, Order, Pool, Rows, training_sound
from models.sao_tiny.examples import family
from models.sao_tiny.loop import Schedule, fit
from models.sao_tiny.noisy_latents import blended, expressed, from_own_guess, noise_levels, power
from models.sao_tiny.optimizers import Muon, adamw, orthogonal, scaled_rates
from models.sao_tiny.reconstruction import PowerSpectra, Reconstruction, low_power
from models.sao_tiny.requests import KINDS, WINDOW, Sound, render
from models.sao_tiny.signals import REPEAT, SAMPLE_RATE
from models.sao_tiny.sounds import LOOPS, TONES
from models.sao_tiny.stereo import mono, stereo
from sao_onnx_convert.source.config import load_config, parse_config

WHOLE = WINDOW / SAMPLE_RATE
CPU = torch.device("cpu")


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Two threads that share so little work wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _render(seed=0, **facts):
    return render(np.random.default_rng(seed), Sound(**({"seconds": WHOLE} | facts)))


# Pools of sounds


def test_a_pool_holds_sounds_takes_gains_and_ends():
    order = Order(first=100, count=len(KINDS), takes=2, evenly=True)
    pool = Pool(order)
    for index, kind in enumerate(KINDS):
        if kind not in ("sine", "rain", "kick", "white noise"):
            continue
        pool.render(index)
        rng, sound = training_sound(100 + index, kind)
        assert order.sound(index)[1] == sound
        expected = render(rng, sound)
        heard = pool.gains[index][:, None] * pool.audio[index, 0] / 32767
        np.testing.assert_allclose(heard, expected, atol=1e-4)
        # A sound without noise has one take.
        assert pool.varied[index] == (1 if kind == "sine" else 2)
        if kind != "sine":
            assert not np.array_equal(pool.audio[index, 0], pool.audio[index, 1])
        assert (
            not pool.audio[index, 0, pool.ends[index] + 256 :].any()
            or np.abs(pool.audio[index, 0, pool.ends[index] + 256 :]).max() < 100
        )
        assert np.abs(pool.audio[index, 0, : pool.ends[index]]).max() > 1000


def test_the_quieter_side_is_the_louder_one_turned_down():
    index = next(index for index in range(500) if training_sound(index)[1].side == "right")
    pool = Pool(Order(first=index, count=1))
    pool.render(0)
    assert pool.gains[0].tolist() == pytest.approx([0.12, 1.0])
    np.testing.assert_allclose(pool.audio[0, 0] / 32767, render(*training_sound(index))[1], atol=1e-4)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """That of the stages that are finished."""
    return text.train_tokenizer(train.FINISHED / train.TOKENIZER)


def test_a_pool_has_prompts_of_its_sounds(tokenizer):
    pool = Pool(Order(first=7, count=1, prompts=3), tokenizer)
    pool.render(0)
    assert pool.ids.shape == (1, 3, MAX_TOKENS)
    _, sound = training_sound(7)
    for row in pool.ids[0]:
        count = int((row != 0).sum())
        assert row[:count].all()
        assert row[count - 1] == tokenizer.token_to_id(text.END)
        words = tokenizer.decode(row[:count].tolist())
        for word in (sound.tone, sound.side, sound.level):
            assert word in words


def test_processes_render_a_pool_in_order():
    order = Order(first=0, count=7)
    pool, expected = Pool(order), Pool(order)
    pool.start(workers=3)
    counts = [pool.ready(at_least) for at_least in (1, 4, 99)]
    assert counts == sorted(counts)
    assert counts[-1] == 7
    for index in (0, 4, 6):
        expected.render(index)
        np.testing.assert_array_equal(pool.audio[index], expected.audio[index])
        assert pool.ends[index] == expected.ends[index]


def test_only_a_gapless_beginning_is_ready():
    pool = Pool(Order(first=0, count=10))
    pool.done = np.array([2, 0, 3])
    assert pool.ready() == 1
    pool.done = np.array([2, 2, 1])
    assert pool.ready() == 5
    pool.done = np.array([10, 10, 3])
    assert pool.ready() == 10


def test_a_process_that_fails_is_noticed(monkeypatch):
    def fail(self, index):
        raise ValueError

    monkeypatch.setattr(Pool, "render", fail)
    pool = Pool(Order(first=0, count=4))
    pool.start(workers=2)
    with pytest.raises(RuntimeError, match="failed"):
        pool.ready(at_least=4)


def test_rows_grow():
    source = np.zeros((4, 2), np.int16)
    rows = Rows(source, CPU)
    source[:3] = 5
    rows.grow(3)
    assert rows.count == 3
    assert rows.data[:3].eq(5).all()


def test_excerpts_are_drawn_from_what_is_ready():
    pool = Pool(Order(first=0, count=2 * len(KINDS), evenly=True))
    pool.done = np.array([len(KINDS)])
    pool.audio[: len(KINDS)] = 16384
    pool.ends[:] = WINDOW
    excerpts = autoencoder.Excerpts(pool, CPU)
    excerpts.grow()
    batch = excerpts.draw(seed=3, count=64)
    assert batch.shape == (64, 1, autoencoder.CROP)
    levels = batch[:, 0, 0]
    torch.testing.assert_close(batch, levels[:, None, None].expand_as(batch))
    assert 0.02 < levels.min() < 0.07
    assert 0.2 < levels.max() < 0.51
    torch.testing.assert_close(batch, excerpts.draw(seed=3, count=64))


# The autoencoder


@pytest.fixture(scope="module")
def small():
    """The configuration with a much narrower autoencoder and transformer."""
    config = json.loads(train.CONFIG.read_text())
    coder = config["model"]["pretransform"]["config"]
    coder["encoder"]["config"] |= {"channels": 8, "c_mults": [1, 2, 4, 8]}
    coder["decoder"]["config"] |= {"channels": 8, "c_mults": [1, 2, 4, 8]}
    config["model"]["diffusion"]["config"] |= {"embed_dim": 128, "depth": 2, "num_heads": 2}
    for part in (coder["encoder"]["config"], coder["decoder"]["config"], coder):
        part["latent_dim"] //= 4
    config["model"]["diffusion"]["config"]["io_channels"] //= 4
    config["model"]["io_channels"] //= 4
    return config


@pytest.fixture(scope="module")
def finished():
    """The autoencoder of one channel as it is kept, and its configuration."""
    config = load_config(train.CONFIG)
    model = autoencoder.untrained(config)
    model.load_state_dict(states.read(train.FINISHED, "autoencoder"))
    return model.eval().requires_grad_(False), config.model.pretransform.config


def _begun(config, audio):
    """A small autoencoder of one channel as training begins."""
    from models.sao_tiny.lapped import initialize

    pretransform = parse_config(config).model.pretransform.config
    torch.manual_seed(0)
    model = mono(pretransform)
    initialize(model, audio, pretransform.encoder.config.strides)
    return model.requires_grad_(False), pretransform


def _channels(count, **facts):
    return torch.from_numpy(np.stack([_render(seed=seed, **facts)[:1, : 32 * 1024] for seed in range(count)]))


def test_a_lapped_autoencoder_works_untrained(small):
    audio = _channels(4, kind="kick")
    model, _ = _begun(small, audio)
    mean, stdev = model.encode(audio)
    assert listen.si_sdr(model.decoder(mean).numpy(), audio.numpy()) > 6
    assert stdev.median() < 0.2


def test_scaled_latents_decode_to_the_same(small):
    audio = _channels(2, kind="saw", note=50)
    model, _ = _begun(small, audio)
    before = model.decoder(model.encode(audio)[0])
    autoencoder.standardize(model, audio)
    mean, stdev = model.encode(audio)
    size = (mean.square() + stdev.square()).mean((0, 2)).sqrt()
    torch.testing.assert_close(size / autoencoder.LATENT_SIZE, torch.ones(mean.shape[1]), rtol=0.02, atol=0.02)
    torch.testing.assert_close(model.decoder(mean), before, rtol=1e-3, atol=1e-5)


def test_the_stereo_autoencoder_is_twice_that_of_one_channel(small):
    one, config = _begun(small, _channels(2, kind="clap"))
    audio = torch.from_numpy(_render(kind="clap", side="left")[:, : 8 * 1024])
    both = stereo(config, one)
    means, deviations = one.encode(audio[:, None])
    mean, deviation = both.encode(audio[None])
    pairs = [(mean[0], means.flatten(0, 1)), (deviation[0], deviations.flatten(0, 1))]
    pairs.append((both.decoder(mean)[0], one.decoder(means)[:, 0]))
    for twice, single in pairs:
        assert (twice - single).norm() < 1e-4 * single.norm()


def test_the_kept_autoencoder_codes_sounds(finished):
    """Weights in half precision, measured on a few sounds; the model card has all."""
    one, _ = finished
    for facts, least in (({"kind": "sine", "note": 60}, 15), ({"kind": "kick"}, 15), ({"kind": "saw", "note": 48}, 6)):
        audio = torch.from_numpy(_render(**facts)[:1, : 16 * 1024])[None]
        mean, _ = one.encode(audio)
        assert listen.si_sdr(one.decoder(mean)[0].numpy(), audio[0].numpy()) > least, facts


def test_compiled_activations_are_what_they_stand_for(small):
    audio = _channels(1, kind="kick")
    model, _ = _begun(small, audio)
    before = model.decoder(model.encode(audio)[0])
    autoencoder.compile_activations(model)
    # What is compiled is run as it is written: compiling takes a compiler of C++ and half a minute.
    with torch.compiler.set_stance("force_eager"):
        torch.testing.assert_close(model.decoder(model.encode(audio)[0]), before)


class _Same:
    """An autoencoder whose latents are the audio."""

    def encode(self, audio):
        assert audio.shape[1] == 1
        return audio, torch.zeros_like(audio)

    def decoder(self, x):
        return x


def test_both_channels_are_measured():
    audio = _render(kind="clap", side="left")
    np.testing.assert_array_equal(measure_state.of_network(cast(Any, _Same()))(audio), audio)


# How far decoded audio is from what was encoded


def test_what_is_the_same_costs_nothing():
    compare = Reconstruction()
    audio = torch.from_numpy(_render(kind="clap")[:, None, :16384])
    same = compare(audio, audio, 1e-6)
    assert {name: float(value) for name, value in same.items()} == {"stft": 0, "mel": 0, "wave": 0}
    noise = 0.01 * torch.randn(audio.shape, generator=torch.Generator().manual_seed(0))
    near, far = compare(audio + noise, audio, 1e-6), compare(audio + 10 * noise, audio, 1e-6)
    assert all(0 < near[name] < far[name] for name in same)


def test_noise_is_like_other_noise_in_wide_bands():
    random = torch.Generator().manual_seed(0)
    one, other = (0.1 * torch.randn(2, 1, 32768, generator=random) for _ in range(2))
    compare = Reconstruction()
    found, silent = compare(other, one, 1e-6), compare(torch.zeros_like(one), one, 1e-6)
    assert found["mel"] < 0.1 * silent["mel"]
    assert found["wave"] > silent["wave"]


def test_waves_count_where_they_can_be_followed():
    seconds = torch.arange(8192) / SAMPLE_RATE
    waves = torch.stack([torch.sin(2 * torch.pi * hertz * seconds) for hertz in (323.0, 12059.0)])
    assert low_power(waves).tolist() == pytest.approx([0.5, 0.5 / (1 + (12059 / 4000) ** 4)], rel=0.05)


def test_gradient_of_power_spectra():
    window = torch.hann_window(16, dtype=torch.float64)
    signal = torch.randn(2, 64, dtype=torch.float64, requires_grad=True, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(lambda x: PowerSpectra.apply(x, window), signal)


# Latents


class _Scales(torch.nn.Module):
    """Stands for an autoencoder: the latents of audio are its frames, in two channels."""

    def encode(self, audio):
        mean = torch.cat([audio, 2 * audio], dim=1)
        return mean, torch.zeros_like(mean)


def test_latents_have_means_and_deviations_of_takes():
    pool = Pool(Order(first=0, count=3, takes=3))
    noise = np.random.default_rng(0).standard_normal((3, WINDOW))
    # Noise on the left; noise in the middle; a sound without noise.
    pool.audio[0] = pool.audio[1] = np.round(1000 * noise + 300)
    pool.audio[2, 0] = 300
    pool.gains[:] = [[1.0, 0.12], [1.0, 1.0], [1.0, 1.0]]
    pool.varied[:] = [3, 3, 1]
    pool.done = np.array([3])
    found = latents.Latents(cast(Any, _Scales()), pool, 2, WINDOW, CPU)
    found.grow()
    assert found.count == 3
    mean, deviation, first = (values.double() * 32767 for values in (found.mean, found.deviation, found.first))
    assert mean[0, 0, 0].mean() == pytest.approx(300, rel=0.05)
    assert deviation[0, 0, 0].mean() == pytest.approx(1000, rel=0.02)
    assert deviation[0, 1, 1].mean() == pytest.approx(2 * 0.12 * 1000, rel=0.02)
    assert torch.equal(mean[1, 0], mean[1, 1])
    assert torch.equal(deviation[1, 0], deviation[1, 1])
    torch.testing.assert_close(first[0, 0, 0, :50], torch.from_numpy(1000 * noise[0, :50] + 300), rtol=0.01, atol=2)
    assert not deviation[2].any()
    torch.testing.assert_close(mean[2, 1, 1, :5], torch.full((5,), 600.0, dtype=torch.float64), rtol=1e-3, atol=1)


# Noisy latents


@pytest.fixture(scope="module")
def normal():
    """Mean, deviation and noise [2, 2, 8, 4000] of latents half of which are noise, three times as loud on the left."""
    random = torch.Generator().manual_seed(0)
    mean, noise = (torch.randn(2, 2, 8, 4000, generator=random) for _ in range(2))
    deviation = torch.zeros_like(mean)
    deviation[:, 0, 4:], deviation[:, 1, 4:] = 1.5, 0.5
    return mean, deviation, noise


def test_noisy_and_clean_latents(normal):
    mean, deviation, noise = normal
    clean = expressed(mean, deviation, noise)
    torch.testing.assert_close(blended(mean, deviation, noise, torch.ones(2)), noise, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(clean[:, :, :4], mean[:, :, :4])
    torch.testing.assert_close((clean - mean)[:, 0, 4:], 3 * (clean - mean)[:, 1, 4:], rtol=1e-3, atol=1e-4)
    assert (clean - mean)[:, 0, 4:].std() == pytest.approx(1.5, rel=0.02)
    for level in (0.9, 0.5, 0.1):
        noisy = blended(mean, deviation, noise, torch.full((2,), level))
        spread = (noisy - (1 - level) * mean)[:, 0].std(dim=(0, 2))
        # What latents drawn on their own would have.
        assert spread[:4].tolist() == pytest.approx([level] * 4, rel=0.03)
        assert spread[4:].tolist() == pytest.approx([np.hypot((1 - level) * 1.5, level)] * 4, rel=0.03)
    # Hardly any noise is hardly any change.
    torch.testing.assert_close(blended(mean, deviation, noise, torch.full((2,), 1e-4)), clean, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("level", [0.95, 0.5, 0.1])
def test_own_guesses_of_an_exact_model_are_noisy_latents_like_all(normal, level):
    mean, deviation, noise = normal
    clean = expressed(mean, deviation, noise)
    t = torch.full((2,), level)
    torch.manual_seed(1)
    # A model that finds what the noise stands for.
    noisy, ours = from_own_guess(lambda x, t, *conditioning: clean, mean, deviation, noise, t, [])
    spread = (noisy - (1 - level) * mean)[:, 0].std(dim=(0, 2))
    assert spread[:4].tolist() == pytest.approx([level] * 4, rel=0.03)
    assert spread[4:].tolist() == pytest.approx([np.hypot((1 - level) * 1.5, level)] * 4, rel=0.03)
    assert ours.std() == pytest.approx(1, rel=0.02)
    # The noise that is given back is the noise in them, so that what they stand for is known.
    torch.testing.assert_close(blended(mean, deviation, ours, t), noisy, rtol=1e-3, atol=1e-3)


def test_levels_of_noise():
    torch.manual_seed(0)
    levels = noise_levels(64, 0.5)
    assert levels.shape == (64,)
    assert levels[:32].eq(1).all()
    assert levels[32:].lt(1).all()
    ratios = torch.logit(levels[32:]).sort().values
    assert ratios[0] < -2.1
    assert ratios[-1] > 5.5
    # Evenly spread: each in its own share of the range.
    assert ratios.diff().max() < 2 * 8.5 / 32 + 1e-4


def test_power_of_latents():
    mean, deviation = torch.full((1, 2, 4, 10), 3.0), torch.full((1, 2, 4, 10), 4.0)
    assert power(mean, deviation).tolist() == pytest.approx([25.0])
    assert power(0 * mean, 0 * deviation).item() > 0


# The transformer


@pytest.fixture(scope="module")
def denoiser(small):
    return initial_weights.untrained(parse_config(small)).requires_grad_(False)


def test_training_begins_with_places_as_waves(denoiser):
    width, ratio = 128, 512
    table = denoiser.dit.transformer.pos_emb.emb.weight / (0.5 * width**0.5)
    period = REPEAT // ratio
    waves = table[1:, : 2 * (period // 2)]
    # Held tones repeat, and so do the waves that they are sums of; each is a direction of its own.
    count = 63
    torch.testing.assert_close(waves[:period, :count], waves[period : 2 * period, :count], rtol=1e-3, atol=1e-3)
    gram = waves[:period, :count].T @ waves[:period, :count] / (period / 2)
    torch.testing.assert_close(gram, torch.eye(count), rtol=1e-2, atol=0.01)


def test_training_begins_with_latents_passing_through(denoiser):
    x = torch.randn(2, 2, 32, 384)
    tokens = torch.randn(2, MAX_TOKENS, 128)
    velocity = denoiser(x.flatten(1, 2), torch.ones(2), tokens, torch.full((2,), 3.0), torch.ones(2))
    # Nothing but the skip connections around the convolutions of both ends, and small blocks.
    assert velocity.shape == (2, 64, 384)
    assert torch.isfinite(velocity).all()
    assert not denoiser.dit.preprocess_conv.weight.any()
    assert not denoiser.dit.postprocess_conv.weight.any()


def test_what_is_not_shown_says_nothing(denoiser):
    x, t = torch.randn(2, 64, 384), torch.ones(2)
    seconds, hidden = torch.full((2,), 3.0), torch.zeros(2)
    velocities = [denoiser(x, t, torch.randn(2, MAX_TOKENS, 128), seconds, hidden) for _ in range(2)]
    torch.testing.assert_close(*velocities)


class _Held:
    """Examples that are ready."""

    def __init__(self, count=64):
        random = torch.Generator().manual_seed(0)
        self.device = CPU
        self.mean = torch.randn(count, 2, 4, 32, generator=random).half()
        self.deviation = torch.rand(count, 2, 4, 32, generator=random).half()
        self.latents = self
        self.bases = torch.linalg.qr(torch.randn(2, 4, 4, generator=random))[0]
        self.basis_of = torch.arange(count) % 2
        self.families = torch.arange(count) % 4
        self.seconds = torch.full((count,), 2.0)

    def grow(self, at_least=0):
        pass

    def draw(self, rng, count):
        return {"rows": torch.arange(count), "prompts": torch.zeros(count).long(), "shown": torch.ones(count)}

    def conditioning(self, batch):
        return batch["prompts"], self.seconds[batch["rows"]], batch["shown"]


class _Exact:
    """A model that always finds what noisy latents stand for: it knows the means and deviations, and solves for the noise."""

    def __init__(self, examples):
        self.bases = examples.bases[examples.basis_of][:, None]
        self.mean, self.deviation = examples.mean.float(), examples.deviation.float()

    def denoised(self, x, t, prompt, seconds, shown):
        rows = slice(0, len(x)) if len(x) == 64 else slice(round(diffusion.PURE_NOISE_LATE * 64), 64, 2)
        mean, deviation, level = self.mean[rows], self.deviation[rows], t[:, None, None, None]
        norm = deviation.norm(dim=1, keepdim=True)
        bases = self.bases[rows]
        along = (deviation / norm * (bases.mT @ x - (1 - level) * mean)).sum(1, keepdim=True)
        return bases @ (mean + along / ((1 - level).square() * norm.square() + level.square()).sqrt() * deviation)


class _Wrong(_Exact):
    """The same with an error that does not grow smaller."""

    def denoised(self, x, t, prompt, seconds, shown):
        return super().denoised(x, t, prompt, seconds, shown) + 0.1


@pytest.mark.parametrize("phase", [0, 1])
def test_a_model_that_is_exact_has_no_error(phase):
    examples = _Held()
    task = diffusion.Denoising(cast(Any, _Exact(examples)), cast(Any, examples))
    torch.manual_seed(0)
    batch = task.draw(1, 0.9 * phase)
    assert task.phase(0.9 * phase) == phase
    found = task.losses(phase, batch)
    assert found["loss"] < 1e-6
    assert found["at_0.9"] < 1e-6
    # One that is wrong has one, and a greater one after the end of the clip.
    task = diffusion.Denoising(cast(Any, _Wrong(examples)), cast(Any, examples))
    assert task.losses(phase, batch)["loss"] > 0.01


def test_families():
    assert [family(training_sound(0, kind)[1]) for kind in (TONES[0], LOOPS[0], "rain")] == [0, 1, 2]


# A run


def test_steps_of_muon_are_orthogonal():
    random = torch.Generator().manual_seed(0)
    for shape in ((3, 8, 24), (3, 24, 8)):
        values = torch.linalg.svdvals(orthogonal(torch.randn(shape, generator=random)))
        assert values.min() > 0.6
        assert values.max() < 1.3


def test_muon_works_on_weights_of_one_shape_together():
    random = torch.Generator().manual_seed(0)
    gradients = [torch.randn(shape, generator=random) for shape in ((8, 4, 6), (8, 24), (5, 7))]
    weights = [torch.nn.Parameter(torch.zeros(gradient.shape)) for gradient in gradients]
    alone = [torch.nn.Parameter(torch.zeros(gradient.shape)) for gradient in gradients]
    together = Muon(weights, lr=0.1)
    assert [len(group["params"]) for group in together.param_groups] == [2, 1]
    for _ in range(3):
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient.clone()
        together.step()
    for weight, other, gradient in zip(weights, alone, gradients, strict=True):
        optimizer = Muon([other], lr=0.1)
        for _ in range(3):
            other.grad = gradient.clone()
            optimizer.step()
        torch.testing.assert_close(weight, other, rtol=1e-4, atol=1e-5)
        # As large as a step of AdamW.
        assert float(other.detach().square().mean().sqrt()) == pytest.approx(3 * 0.1 * 0.2, rel=0.25)


def test_weights_decay():
    weight = torch.nn.Parameter(torch.ones(4, 4))
    weight.grad = torch.zeros(4, 4)
    Muon([weight], lr=0.1, weight_decay=0.5).step()
    torch.testing.assert_close(weight.detach(), torch.full((4, 4), 0.95))


def test_learning_rates_are_scaled_in_all_groups():
    weights = [torch.nn.Parameter(torch.ones(shape)) for shape in ((2, 3), (4, 4))]
    optimizers = [Muon(weights, lr=0.2), adamw(weights, lr=0.01)]
    scale = scaled_rates(optimizers, CPU)
    for share in (0.5, 0.1, 1.0):
        scale(share)
        rates = [[float(group["lr"]) for group in optimizer.param_groups] for optimizer in optimizers]
        assert rates[0] == pytest.approx([0.2 * share] * 2)
        assert rates[1] == pytest.approx([0.01 * share])


def test_a_schedule_counts_steps_and_seconds():
    schedule = Schedule(steps=100, seconds=50, warmup=10, decay=0.5)
    assert schedule.progress(10, 0) == 0.1
    assert schedule.progress(10, 40) == 0.8
    assert schedule.progress(10, 1000) == 1
    assert Schedule(steps=100).progress(50, 1e9) == 0.5
    assert schedule.rate(0, 0) == pytest.approx(0.1)
    assert schedule.rate(20, 0.4) == 1
    assert schedule.rate(20, 0.75) == pytest.approx(0.5)
    assert schedule.rate(20, 1.0) == pytest.approx(0, abs=1e-9)


class _Toy:
    """Weights that shall be the ones of a sum."""

    def __init__(self, model, stop=None):
        self.model, self.stop = model, stop

    def phase(self, progress):
        return int(progress > 0.5)

    def draw(self, step, progress):
        if step == self.stop:
            raise KeyboardInterrupt
        return {"x": torch.randn(8, 4)}

    def losses(self, phase, batch):
        loss = (self.model(batch["x"]) - 1).square().mean()
        return {"loss": loss, "never": loss.detach() * math.nan, "phase": torch.tensor(float(phase))}


def _run(folder, stop=None, schedule=Schedule(steps=20, warmup=5)):  # noqa: B008  It is frozen.
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 4)
    weight, bias = model.parameters()
    optimizers = [Muon([weight], lr=0.01), adamw([bias], lr=0.01)]
    folder.mkdir(exist_ok=True)
    fit("toy", folder, model, optimizers, schedule, _Toy(model, stop), lambda _: None)
    return model


def test_training_goes_on_where_it_was_cut_off(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "SAVE_EVERY", 0.0)
    whole = _run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        _run(tmp_path / "cut", stop=12)
    # What was learned so far can be used.
    partial = states.read(tmp_path / "cut", "toy-partial")
    assert not torch.equal(partial["weight"], whole.weight)
    torch.testing.assert_close(partial["weight"], whole.weight.detach(), rtol=0.5, atol=0.5)
    resumed = _run(tmp_path / "cut")
    torch.testing.assert_close(resumed.weight, whole.weight)
    torch.testing.assert_close(resumed.bias, whole.bias)
    again = _run(tmp_path / "cut", stop=0)
    torch.testing.assert_close(again.weight, whole.weight)


def test_the_curve_has_what_applies(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "LOG_EVERY", 8)
    _run(tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "toy.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [8, 16, 20]
    assert [line["phase"] for line in lines] == [0, pytest.approx(5 / 8), 1]
    assert all(line["never"] == 0 for line in lines)
    assert lines[-1]["loss"] < lines[0]["loss"]


def test_training_ends_when_its_time_is_over(tmp_path, monkeypatch):
    now = iter(range(1000))
    monkeypatch.setattr("time.monotonic", lambda: float(next(now)))
    _run(tmp_path, schedule=Schedule(steps=10**9, seconds=30, warmup=1))
    assert 0 < torch.load(tmp_path / "toy.pt", weights_only=True)["step"] < 30


def test_the_classifier_is_trained_by_the_same_loop(tmp_path, monkeypatch):
    from models.sao_tiny import classifier
    from models.sao_tiny.features import BANDS, FRAMES

    seen = np.random.default_rng(0).random((len(KINDS), BANDS, FRAMES), dtype=np.float32)
    monkeypatch.setattr(classifier, "SOUNDS", len(KINDS))
    monkeypatch.setattr(classifier, "BATCH", 4)
    monkeypatch.setattr(classifier, "SCHEDULE", Schedule(steps=3, warmup=1))
    monkeypatch.setattr(classifier, "spectrograms", lambda path, count, held_out: seen[:count])
    model = classifier.train(tmp_path, lambda _: None)
    assert model(torch.from_numpy(seen)).shape == (len(KINDS), len(KINDS))
    assert "right" in json.loads((tmp_path / "classifier.jsonl").read_text())


# Weights in small files


def test_states_come_back(tmp_path, monkeypatch):
    monkeypatch.setattr(states, "MAX_BYTES", 1000)
    state = {f"part {index}": torch.randn(10, 20) for index in range(6)}
    state |= {"large": torch.randn(2000), "count": torch.tensor(3), "shared": state["part 0"].T}
    states.write(tmp_path / "new", "stage", state)
    assert states.present(tmp_path / "new", "stage")
    found = states.read(tmp_path / "new", "stage")
    assert found.keys() == state.keys()
    for name, tensor in state.items():
        expected = tensor if name == "count" else tensor.half().float()
        assert found[name].dtype == expected.dtype
        assert torch.equal(found[name], expected), name
    sizes = [sum(tensor.nbytes for tensor in load_file(path).values()) for path in (tmp_path / "new").glob("*.safetensors")]
    assert len(sizes) > 3
    assert sorted(sizes)[-2] <= 1000


def test_states_are_replaced_as_a_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(states, "MAX_BYTES", 100)
    old, new = ({f"{index}": torch.full((40,), value) for index in range(3)} for value in (1.0, 2.0))
    states.write(tmp_path, "stage", old)

    def cut_off(path, text):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(states, "_replace", cut_off)
        with pytest.raises(KeyboardInterrupt):
            states.write(tmp_path, "stage", new)
    assert all(tensor.eq(1).all() for tensor in states.read(tmp_path, "stage").values())
    states.write(tmp_path, "stage", new)
    assert all(tensor.eq(2).all() for tensor in states.read(tmp_path, "stage").values())
    assert len(list(tmp_path.glob("*.safetensors"))) == 3
    states.remove(tmp_path, "stage")
    assert not list(tmp_path.iterdir())


def test_states_that_are_missing(tmp_path):
    assert not states.present(tmp_path, "stage")
    with pytest.raises(FileNotFoundError, match="stage"):
        states.read(tmp_path, "stage")
    states.write(tmp_path, "stage", {"x": torch.zeros(3)})
    next(tmp_path.glob("*.safetensors")).unlink()
    assert not states.present(tmp_path, "stage")


def test_finished_stages_are_small():
    for path in train.FINISHED.iterdir():
        assert path.stat().st_size < 12_100_000
    assert sum(path.stat().st_size for path in train.FINISHED.iterdir()) < 30_000_000


def test_compressed_states_are_the_same(tmp_path):
    state = {"x": torch.randn(300, 100), "count": torch.tensor(3)}
    states.write(tmp_path, "plain", state)
    states.write(tmp_path, "small", state, compress=True)
    assert states.present(tmp_path, "small")
    for name, value in states.read(tmp_path, "plain").items():
        assert torch.equal(states.read(tmp_path, "small")[name], value)
    sizes = {name: sum(path.stat().st_size for path in tmp_path.glob(f"{name}-*")) for name in ("plain", "small")}
    assert sizes["small"] < 0.95 * sizes["plain"]


def test_a_finished_training_is_assembled_without_rendering(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise AssertionError

    monkeypatch.setattr(Pool, "__init__", refuse)
    train.train(tmp_path)
    assert (tmp_path / "sao-tiny" / "model.safetensors").is_file()
    assert (tmp_path / "sao-tiny" / "t5" / "tokenizer.json").is_file()


# The edges of the window


def test_the_kept_decoder_is_silent_to_the_last_frame(finished):
    """Convolutions see zeros behind the window. A decoder that never met them clicked there, 40 dB below its peak."""
    one, _ = finished
    audio = torch.from_numpy(_render(kind="coin")[:1, :])[None]
    found = one.decoder(one.encode(audio)[0])[0, 0]
    assert found[-2048:].abs().max() < 10 ** (-50 / 20) * found.abs().max()


def test_excerpts_at_the_edges(small, monkeypatch):
    monkeypatch.setattr(edges, "SOUNDS", 2)
    model, _ = _begun(small, _channels(4, kind="kick"))
    features, audio, at_end = edges._excerpts(model, torch.nn.Sequential(*model.decoder.layers[:4]), CPU)
    decoded = torch.nn.Sequential(*model.decoder.layers[4:])(features)
    assert decoded.shape == (4, 1, edges.KEPT * edges.RATIO)
    assert audio.shape == (4, edges.KEPT * edges.RATIO)
    assert at_end.tolist() == [False, True, False, True]
    edge = edges._edges(at_end, audio.shape[1])
    assert edge.sum(1).tolist() == 4 * [edges.EDGE]
    assert edge[0, 0]
    assert edge[1, -1]


def test_a_click_in_silence_counts_more_than_one_in_sound():
    edge = edges._edges(torch.tensor([True]), 4096)
    wrong = torch.zeros(1, 4096)
    silence, sound = torch.zeros(1, 4096), torch.full((1, 4096), 0.1)
    assert edges.losses(wrong, edge, silence, silence) == 0
    wrong[:, -20:] = 1e-6
    assert edges.losses(wrong, edge, silence, sound) > 20 * edges.losses(wrong, edge, sound, sound)
    moved = wrong.roll(-2000, 1)
    assert 0 < edges.losses(moved, edge, silence, sound) < edges.losses(wrong, edge, silence, sound)


# The bundle of the package


def test_weights_in_half_precision_are_widened_when_a_graph_is_loaded(tmp_path):
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    from models.sao_tiny.compact import store_in_half_precision
    from sao_onnx.runtime.sessions import SessionFactory
    from sao_onnx_convert.export.builder import OPSET
    from sao_onnx_convert.export.modules import save

    weights = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", 64]) for name in "xy")
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "product", [x], [y], [numpy_helper.from_array(weights, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    save(model, tmp_path / "before.onnx")
    model = onnx.load(tmp_path / "before.onnx")
    assert store_in_half_precision(model) == 1
    save(model, tmp_path / "after.onnx")
    given = np.ones((2, 64), np.float32)
    found = SessionFactory(1).session(tmp_path / "after.onnx").run(None, {"x": given})[0]
    np.testing.assert_allclose(found, given @ weights.astype(np.float16).astype(np.float32), rtol=1e-5, atol=1e-4)
    sizes = {name: (tmp_path / f"{name}.onnx.data").stat().st_size for name in ("before", "after")}
    assert sizes["after"] == sizes["before"] / 2


# All stages


@pytest.fixture
def tiny(monkeypatch, tmp_path, small):
    """Training of a few steps and a few sounds, on much smaller networks."""
    t5 = json.loads(train.T5_CONFIG.read_text()) | {"num_layers": 1}
    for name, value in (("CONFIG", small), ("T5_CONFIG", t5)):
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(value))
        monkeypatch.setattr(train, name, path)
    monkeypatch.setattr(autoencoder, "ORDER", dataclasses.replace(autoencoder.ORDER, count=len(KINDS)))
    monkeypatch.setattr(diffusion, "ORDER", dataclasses.replace(diffusion.ORDER, count=10, takes=2))
    few = Schedule(steps=2, warmup=1)
    for module, batch in ((autoencoder, 2), (diffusion, 8), (decoder, 6)):
        monkeypatch.setattr(module, "SCHEDULE", few)
        monkeypatch.setattr(module, "BATCH", batch)
    monkeypatch.setattr(autoencoder, "EXAMPLES", 8)
    monkeypatch.setattr(edges, "SOUNDS", 3)
    monkeypatch.setattr(edges, "STEPS", 3)
    monkeypatch.setattr(autoencoder, "compile_activations", lambda model: None)
    monkeypatch.setattr(text, "SCHEDULE", few)
    monkeypatch.setattr(text, "PROMPTS", 2000)
    return tmp_path / "run"


def test_all_stages_from_nothing(tiny, monkeypatch):
    from sao_onnx_convert.family.stable_audio_open.pipeline import TorchPipeline

    tiny.mkdir()
    # In this process: one that begins anew would know nothing of these few steps.
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    tokenizer = text.train_tokenizer(tiny / train.TOKENIZER)
    train.train_text(tokenizer, tiny)
    train.train(tiny, until="autoencoder", from_scratch=True)
    assert states.present(tiny, "autoencoder")
    assert not states.present(tiny, "diffusion")
    # The second call goes on behind the stages that are finished.
    train.train(tiny, from_scratch=True)
    assert {path.stem for path in tiny.glob("*.jsonl")} == {"text", "autoencoder", "diffusion", "decoder"}
    assert not list(tiny.glob("*-partial*"))
    model = TorchPipeline.load(tiny / "sao-tiny", tiny / "sao-tiny" / "t5").model
    kept = states.read(tiny, "decoder")
    for name, value in stereo_state(kept).items():
        torch.testing.assert_close(model.autoencoder.decoder.state_dict()[name], value)
    # The encoder is that of the second stage, the decoder is not.
    before = states.read(tiny, "autoencoder")
    assert any(not torch.equal(before[f"decoder.{name}"], value) for name, value in kept.items())


def stereo_state(kept):
    """Those weights of a decoder of one channel that are found in the stereo one as they are, twice."""
    return {name: torch.cat([value, value]) for name, value in kept.items() if name.endswith(("bias", "alpha", "beta"))}


def test_finished_stages_are_taken(tmp_path):
    train.take_finished(tmp_path)
    assert (tmp_path / train.TOKENIZER).read_bytes() == (train.FINISHED / train.TOKENIZER).read_bytes()
    for name in ("autoencoder", "text", "diffusion"):
        kept, taken = states.read(train.FINISHED, name), states.read(tmp_path, name)
        assert kept.keys() == taken.keys()
        assert all(torch.equal(kept[key], taken[key]) for key in kept)
    coder, decoder_state = states.read(train.FINISHED, "autoencoder"), states.read(tmp_path, "decoder")
    assert decoder_state
    assert all(torch.equal(coder[f"decoder.{key}"], value) for key, value in decoder_state.items())
    reader = text.untrained(train.T5_CONFIG)
    assert train.load_stage(tmp_path, "text", reader)


def test_the_finished_text_encoder_reads(tokenizer):
    from models.sao_tiny.requests import describe
    from models.sao_tiny.targets import numbers

    reader = text.untrained(train.T5_CONFIG)
    reader.load_state_dict(states.read(train.FINISHED, "text"))
    unseen = [data.unseen_sound(index) for index in range(100)]
    ids = torch.from_numpy(data.encode(tokenizer, [describe(rng, sound) for rng, sound in unseen])).long()
    truth = numbers([sound for _, sound in unseen])
    with torch.no_grad():
        error = (reader(ids) - truth).square().mean()
    assert error < 0.05
