"""Two helps of sao-tiny's training: nameless tones, and noise along directions of its own."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
import torch

from models.sao_tiny import latents, nameless, noise_bases, text, train
from models.sao_tiny.data import Order, Pool, training_sound
from models.sao_tiny.examples import NAMELESS, Examples
from models.sao_tiny.nameless import GROUPS
from models.sao_tiny.requests import KINDS, WINDOW, Sound, render
from models.sao_tiny.signals import SAMPLE_RATE, Chance, tuned
from models.sao_tiny.sounds import ENDING, TONES, Voicing

CPU = torch.device("cpu")
PITCH = 220.0


# Numbers and what they sound like


def test_groups_have_each_partial_once():
    every = [ratio for group in GROUPS for ratio in group]
    assert len(every) == len(set(every))
    assert {ratio for ratio in every if ratio == int(ratio)} == set(range(1, 97))
    # Odd and even partials are never in one group: a square must not bring a saw's partials along.
    assert all(len({ratio % 2 for ratio in group}) == 1 for group in GROUPS)


def test_half_of_the_numbers_are_nothing():
    drawn = np.stack([nameless.numbers(np.random.default_rng(seed)) for seed in range(300)])
    assert drawn.shape == (300, len(GROUPS))
    assert drawn.dtype == np.float32
    assert np.mean(drawn == 0) == pytest.approx(0.5, abs=0.02)
    assert drawn[drawn != 0].std() == pytest.approx(0.8, rel=0.05)


def test_a_token_tells_its_numbers():
    drawn = np.stack([nameless.numbers(np.random.default_rng(seed)) for seed in range(40)])
    tokens = nameless.token(drawn)
    assert tokens.shape == (40, 128)
    # Linear in the numbers, with one direction for each: they can be read from it again.
    origin = nameless.token(np.zeros(len(GROUPS), np.float32))
    axes = nameless.token(np.eye(len(GROUPS), dtype=np.float32)) - origin
    np.testing.assert_allclose((tokens - origin) @ axes.T / np.square(axes).sum(1), drawn, atol=1e-5)
    np.testing.assert_allclose(axes @ axes.T, 16 * np.eye(len(GROUPS)), atol=1e-4)
    np.testing.assert_allclose(origin @ axes.T, 0, atol=1e-4)


def _level(audio, hertz):
    """Amplitude of a sine in audio, found over a second and a half."""
    count = 3 * SAMPLE_RATE // 2
    part = audio[4000 : 4000 + count] * np.hanning(count)
    return 4 / count * abs(part @ np.exp(-2j * np.pi * hertz * np.arange(count) / SAMPLE_RATE))


def _only(**numbers):
    return np.asarray([numbers.get(f"r{group[0]:g}".replace(".", "_"), 0.0) for group in GROUPS], np.float32)


def test_held_partials_have_the_share_of_a_saw():
    voice = nameless.partials(_only(r3=0.5, r4=-1.0, r2_76=2.0), rings=False)
    audio = voice(Chance(0, 0), Voicing(2.0, hertz=PITCH))
    pitch = tuned(PITCH)
    for hertz, level in ((3 * pitch, 0.5 / 3), (4 * pitch, 1 / 4), (tuned(2.76 * PITCH), 2 / 2.76), (2 * pitch, 0.0)):
        assert _level(audio, hertz) == pytest.approx(level, abs=0.002)
    assert audio[0] == pytest.approx(0, abs=1e-6)
    assert abs(audio[-1]) < 0.01


def test_ringing_partials_die_away_the_higher_the_faster():
    low, high = (
        nameless.partials(_only(**{name: 1.0}), rings=True)(Chance(0, 0), Voicing(3.0, hertz=PITCH)) for name in ("r1", "r8")
    )

    def fall(audio):
        early, late = (np.abs(audio[at : at + 4000]).max() for at in (2000, 30_000))
        return late / early

    assert fall(high) < 0.5 * fall(low) < 0.5


@pytest.mark.parametrize("rings", [False, True])
@pytest.mark.parametrize("pitch", [65.4, 2093.0])
def test_what_cannot_be_heard_is_left_out(rings, pitch):
    audio = nameless.partials(np.ones(len(GROUPS), np.float32), rings)(Chance(0, 0), Voicing(1.0, hertz=pitch))
    spectrum = np.abs(np.fft.rfft(audio * np.hanning(len(audio)))) ** 2
    assert spectrum[np.fft.rfftfreq(len(audio), 1 / SAMPLE_RATE) > 21_500].sum() < 1e-5 * spectrum.sum()
    silent = nameless.partials(np.zeros(len(GROUPS), np.float32), rings)(Chance(0, 0), Voicing(1.0, hertz=pitch))
    assert not silent.any()


def test_a_second_voice_adds_to_the_first():
    sound = Sound("sine", 2.0, note=57)

    def heard(numbers):
        return render(np.random.default_rng(0), sound, more=nameless.partials(numbers, rings=False))[0]

    plain = render(np.random.default_rng(0), sound)[0]
    np.testing.assert_allclose(heard(_only()), plain, atol=1e-6)
    pitch = tuned(PITCH)
    added = heard(_only(r3=3.0))
    assert _level(added, 3 * pitch) == pytest.approx(_level(added, pitch), rel=0.02)
    assert _level(plain, 3 * pitch) < 0.01 * _level(plain, pitch)


# Their places in a pool


def test_every_fourth_sound_is_nameless_and_of_each_kind_in_turn():
    order = Order(first=50, count=32, nameless=4)
    assert [order.is_nameless(index) for index in range(6)] == [True, False, False, False, True, False]
    assert [order.sound(4 * turn)[1].kind for turn in range(8)] == [*TONES, TONES[0]]
    assert order.sound(5)[1] == training_sound(55)[1]
    assert not any(Order(first=0, count=9).is_nameless(index) for index in range(9))
    # No two are alike, and the same place is always the same.
    assert not np.array_equal(order.numbers(0), order.numbers(4))
    np.testing.assert_array_equal(order.numbers(4), order.numbers(4))
    assert not any(order.sound(index)[1].held_out for index in range(32))


@pytest.mark.parametrize("turn", [TONES.index("saw"), TONES.index("bell")])
def test_a_pool_renders_nameless_tones(turn):
    order = Order(first=50, count=4 * turn + 1, takes=2, nameless=4)
    pool = Pool(order)
    place = 4 * turn
    pool.render(place)
    rng, sound = order.sound(place)
    voice = nameless.partials(order.numbers(place), sound.kind in ENDING)
    heard = pool.gains[place][:, None] * pool.audio[place, 0] / 32767
    np.testing.assert_allclose(heard, render(rng, sound, more=voice), atol=1e-4)
    assert np.abs(heard - render(*order.sound(place))).max() > 0.01
    # There is no noise in it.
    assert pool.varied[place] == 1


@pytest.fixture(scope="module")
def tokenizer():
    return text.train_tokenizer(train.FINISHED / train.TOKENIZER)


class _Held:
    """Latents that are there already."""

    def __init__(self, pool):
        self._ids = torch.from_numpy(pool.ids)
        self.count = 0

    @property
    def ids(self):
        return self._ids

    def grow(self, at_least=0):
        self.count = len(self._ids)


def test_numbers_stand_where_prompts_are_empty(tokenizer):
    order = Order(first=7, count=6, prompts=2, nameless=4)
    pool = Pool(order, tokenizer)
    for index in range(order.count):
        pool.render(index)
    assert not pool.ids[:, :, -1].any()
    examples = Examples(cast(Any, _Held(pool)), order, text.untrained(train.T5_CONFIG).eval(), CPU)
    examples.grow()
    assert examples.families.tolist()[::4] == [NAMELESS, NAMELESS]
    assert NAMELESS not in examples.families[[1, 2, 3, 5]].tolist()
    for index in range(order.count):
        expected = nameless.token(order.numbers(index)) if order.is_nameless(index) else np.zeros(128)
        for prompt in range(2):
            np.testing.assert_allclose(examples.prompts[index, prompt, -1].float(), expected, atol=0.02)
    rows = examples.draw(np.random.default_rng(0), 2000)["rows"]
    assert (examples.families[rows] == NAMELESS).float().mean() > 0.2


# Directions of noise


def test_kinds_with_directions_of_their_own():
    assert [noise_bases.basis_of(kind) for kind in noise_bases.OWN] == list(range(1, 1 + len(noise_bases.OWN)))
    assert {noise_bases.basis_of(kind) for kind in KINDS if kind not in noise_bases.OWN} == {0}
    assert noise_bases.basis_of("rain")
    assert not noise_bases.basis_of("saw")


class _Mixed:
    """Two channels: the frames, of which the second channel is three times the first one."""

    def encode(self, audio):
        mean = torch.cat([audio, 3 * audio], dim=1)[..., ::512]
        return mean, torch.zeros_like(mean)


def _pool_of_noise():
    pool = Pool(Order(first=0, count=3, takes=3))
    noise = np.random.default_rng(0).standard_normal((3, WINDOW))
    pool.audio[0] = pool.audio[1] = np.round(1000 * noise)
    pool.audio[2, 0] = 300
    pool.gains[:] = 1.0
    pool.varied[:] = [3, 3, 1]
    pool.done = np.array([3])
    return pool


def test_directions_are_those_of_the_noise():
    def encode(audio):
        return _Mixed().encode(audio)[0]

    found = noise_bases.find(encode, _pool_of_noise(), ["rain", "rock loop", "wind"], 2, CPU)
    assert found.shape == (1 + len(noise_bases.OWN), 2, 2)
    torch.testing.assert_close(found @ found.mT, torch.eye(2).expand_as(found), rtol=0, atol=1e-5)
    # The strongest direction comes last.
    torch.testing.assert_close(found[noise_bases.basis_of("rain"), :, 1].abs(), torch.tensor([0.1, 0.9]).sqrt())
    # Loops have none of their own, and what has no noise, or has not been heard, keeps the channels.
    for kind in ("rock loop", "wind", "thunder"):
        assert torch.equal(found[noise_bases.basis_of(kind)], torch.eye(2)), kind


def test_all_sounds_of_a_kind_count_the_same():
    pool = _pool_of_noise()
    pool.audio[1] //= 20
    swapped = iter((False, True))

    def encode(audio):
        found = _Mixed().encode(audio)[0]
        return found.flip(1) if next(swapped) else found

    rain = noise_bases.find(encode, pool, ["rain", "rain", "saw"], 2, CPU)[noise_bases.basis_of("rain")]
    torch.testing.assert_close(rain[:, 1].abs(), torch.tensor([0.5, 0.5]).sqrt(), rtol=0, atol=1e-3)


def test_latents_are_kept_along_the_directions_of_their_noise():
    pool = _pool_of_noise()
    kinds = ["rain", "rock loop", "wind"]
    plain, turned = (latents.Latents(cast(Any, _Mixed()), pool, 2, WINDOW // 512, CPU) for _ in range(2))
    plain.grow()
    turned.find_bases(kinds, at_least=3)
    turned.grow()
    assert turned.basis_of.tolist() == [noise_bases.basis_of(kind) for kind in kinds]
    basis = turned.bases[turned.basis_of[0]]
    for side in range(2):
        torch.testing.assert_close(basis @ turned.mean[0, side].float(), plain.mean[0, side].float(), rtol=0, atol=2e-3)
        # All of the noise is along one direction.
        deviation = turned.deviation[0, side].float()
        assert deviation[0].max() < 0.01 * deviation[1].mean()
        total = plain.deviation[0, side].float().square().sum(0)
        torch.testing.assert_close(deviation.square().sum(0), total, rtol=0.02, atol=1e-4)
    assert torch.equal(turned.mean[1:], plain.mean[1:])
    assert torch.equal(turned.deviation[1:], plain.deviation[1:])
    # The first take is as it was.
    assert torch.equal(turned.first, plain.first)


def test_noise_whose_channels_go_together_is_made_again():
    """Drawn along its directions, noise has the covariance that it had; channel by channel, it has not."""
    pool = _pool_of_noise()
    held = latents.Latents(cast(Any, _Mixed()), pool, 2, WINDOW // 512, CPU)
    held.find_bases(["rain", "rock loop", "wind"], at_least=3)
    held.grow()
    drawn = torch.randn(2, held.deviation.shape[-1], generator=torch.Generator().manual_seed(0))
    for row, together in ((0, 1.0), (1, 0.0)):
        made = held.bases[held.basis_of[row]] @ (held.deviation[row, 0].float() * drawn)
        assert float(torch.corrcoef(made)[0, 1]) == pytest.approx(together, abs=0.15)
