"""The synthesizer: every kind of sound that the model is taught, as a function of a seeded generator and a few parameters.

A voice makes one mono sound that starts at frame 0, in phase, so that the same request gives nearly the same sound: what varies
with the generator is its timbre, its envelope and its noise, not the pitch or the beat of what has one. Waves that drift apart
average to nothing, and the model's first guess, from noise alone, is an average. Held waves are `tuned`, strokes fall on the
grid, and drums ring at multiples of its rate. All is made up here; nothing is recorded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from models.sao_tiny.signals import (
    GRID,
    SAMPLE_RATE,
    Array,
    Chance,
    attack,
    band_pass,
    decay,
    fade_ends,
    filtered,
    frames,
    harmonics,
    high_pass,
    low_pass,
    put,
    sine,
    times,
    to_peak,
    tuned,
    white,
)


@dataclass(frozen=True)
class Voicing:
    """What a voice is asked for.

    Attributes:
        seconds: How long a sound lasts that goes on by itself.
        stretch: How much longer or shorter than usual a sound is that ends by itself.
        hertz: Pitch of tones.
        tempo: Beats a minute of loops.
    """

    seconds: float
    stretch: float = 1.0
    hertz: float = 440.0
    tempo: float = 120.0


PLACES = SAMPLE_RATE / GRID
"""Places of the grid a second."""

Voice = Callable[[Chance, Voicing], Array]


def hertz(note: int) -> float:
    """Frequency of a MIDI note in equal temperament, A4 = 69 = 440 Hz."""
    return float(440.0 * 2 ** ((note - 69) / 12))


# -- tones --------------------------------------------------------------------------------------------------------------


def _held(signal: Array, rng: Chance) -> Array:
    return fade_ends(signal, rng.uniform(0.004, 0.02), rng.uniform(0.02, 0.06))


def _held_wave(weights: Callable[[Chance], Array]) -> Voice:
    def voice(rng: Chance, v: Voicing) -> Array:
        return _held(harmonics(tuned(v.hertz), frames(v.seconds), weights(rng)), rng)

    return voice


_K = np.arange(1.0, 513.0)


def _organ(rng: Chance) -> Array:
    weights = np.zeros(16)
    weights[[0, 1, 2, 3, 5, 7]] = [1.0, 0.8, 0.5, 0.45, 0.25, 0.2] * rng.uniform(0.7, 1.0, 6)
    return weights


def _plucked(rng: Chance, v: Voicing) -> Array:
    ring = np.clip(2.2 * (220 / v.hertz) ** 0.3, 0.6, 3.0) * v.stretch * rng.uniform(0.85, 1.15)
    count = frames(min(v.seconds, ring))
    place = rng.uniform(0.12, 0.25)
    result = np.zeros(count)
    for k in range(1, min(40, int(18_000 / v.hertz)) + 1):
        seconds = ring / (0.7 + 0.3 * k)
        part = min(count, frames(seconds))
        result[:part] += np.sin(np.pi * k * place) / k * sine(k * tuned(v.hertz), part) * decay(part, seconds)
    return fade_ends(result, 0.002, 0.02)


def _bell(rng: Chance, v: Voicing) -> Array:
    ring = 3.2 * v.stretch * rng.uniform(0.85, 1.15)
    count = frames(min(v.seconds, ring))
    result = np.zeros(count)
    for ratio, weight in ((1.0, 1.0), (2.0, 0.35), (2.76, 0.4), (5.4, 0.3), (8.93, 0.15)):
        if ratio * v.hertz < 20_000:
            seconds = ring / ratio**0.7
            part = min(count, frames(seconds))
            result[:part] += weight * rng.uniform(0.8, 1.2) * sine(tuned(ratio * v.hertz), part) * decay(part, seconds)
    return fade_ends(result, 0.002, 0.02)


# -- drums --------------------------------------------------------------------------------------------------------------


def _kick(rng: Chance, v: Voicing) -> Array:
    seconds = rng.uniform(0.3, 0.45) * v.stretch
    count = frames(seconds)
    body = sine(PLACES + 160 * np.exp(-times(count) / 0.027), count) * decay(count, seconds)
    click = high_pass(white(rng, frames(0.006)), 1500) * decay(frames(0.006), 0.006)
    put(body, click, 0, rng.uniform(0.05, 0.15))
    return fade_ends(body, 0.0005, 0.02)


def _snare(rng: Chance, v: Voicing) -> Array:
    seconds = rng.uniform(0.2, 0.28) * v.stretch
    count = frames(seconds)
    body = (sine(4 * PLACES, count) + 0.6 * sine(7 * PLACES, count)) * decay(count, 0.5 * seconds)
    wires = high_pass(white(rng, count), 1500) * decay(count, seconds)
    return fade_ends(0.6 * body + 0.45 * wires, 0.0005, 0.01)


def _clap(rng: Chance, v: Voicing) -> Array:
    seconds = rng.uniform(0.22, 0.3) * v.stretch
    count = frames(seconds)
    envelope = np.zeros(count)
    for start in (0.0, 0.011, 0.023):
        put(envelope, decay(frames(0.011), 0.02), start)
    put(envelope, decay(count, 0.8 * seconds), 0.034, 0.8)
    return fade_ends(band_pass(white(rng, count), rng.uniform(1100, 1500), 1.3) * envelope, 0.0005, 0.01)


def _hat(rng: Chance, seconds: float) -> Array:
    count = frames(seconds)
    base = rng.uniform(300, 360)
    metal = sum(np.sign(sine(base * ratio, count)) for ratio in (2.0, 3.0, 4.16, 5.43, 6.79, 8.21))
    return fade_ends(high_pass(0.25 * metal + white(rng, count), 7000, 4) * decay(count, seconds), 0.0005, 0.005)


def _closed_hat(rng: Chance, v: Voicing) -> Array:
    return _hat(rng, rng.uniform(0.06, 0.1) * v.stretch)


def _open_hat(rng: Chance, v: Voicing) -> Array:
    return _hat(rng, rng.uniform(0.45, 0.65) * v.stretch)


def _tom(rng: Chance, v: Voicing) -> Array:
    seconds = rng.uniform(0.45, 0.6) * v.stretch
    count = frames(seconds)
    body = sine(3 * PLACES * (1 + 0.5 * np.exp(-times(count) / 0.04)), count) * decay(count, seconds)
    skin = low_pass(white(rng, count), 1200) * decay(count, 0.08)
    return fade_ends(body + 0.2 * skin, 0.001, 0.02)


def _cymbal(rng: Chance, v: Voicing) -> Array:
    seconds = min(v.seconds, rng.uniform(1.8, 2.6) * v.stretch)
    count = frames(seconds)
    noise = high_pass(white(rng, count), 3500, 2)
    return fade_ends(noise * (decay(count, seconds) + decay(count, 0.15)), 0.001, 0.05)


# -- drum loops ---------------------------------------------------------------------------------------------------------

# A bar of sixteen steps for each part: x is a stroke, o a soft one.
_PATTERNS: dict[str, dict[str, str]] = {
    "house": {"kick": "x...x...x...x...", "clap": "....x.......x...", "closed hat": "..x...x...x...x."},
    "techno": {"kick": "x...x...x...x...", "closed hat": "o.xoo.xoo.xoo.xo", "tom": "...........o..o."},
    "rock": {"kick": "x.......x.......", "snare": "....x.......x...", "closed hat": "x.o.x.o.x.o.x.o."},
    "hip hop": {"kick": "x.....x.x.......", "snare": "....x.......x...", "closed hat": "o.o.o.o.o.o.o.o."},
}
STYLES = tuple(_PATTERNS)


def _loop(style: str) -> Voice:
    def voice(rng: Chance, v: Voicing) -> Array:
        count, step = frames(v.seconds), 15 / v.tempo
        track = np.zeros(count)
        for part, pattern in _PATTERNS[style].items():
            stroke = to_peak(VOICES[part](rng, Voicing(1.0)))
            level = {"closed hat": 0.3, "clap": 0.6, "snare": 0.8, "tom": 0.5}.get(part, 1.0) * rng.uniform(0.8, 1.1)
            for index in range(int(v.seconds / step) + 1):
                hit = pattern[index % 16]
                if hit != ".":
                    put(track, stroke, index * step, level * (0.5 if hit == "o" else 1.0), GRID)
        return fade_ends(track, 0.0005, 0.03)

    return voice


# -- noises and weather -------------------------------------------------------------------------------------------------


def _noise(power: float) -> Voice:
    """Noise whose power falls with the frequency to `power`."""

    def voice(rng: Chance, v: Voicing) -> Array:
        noise = filtered(white(rng, frames(v.seconds)), lambda f: np.maximum(f, 30.0) ** (-power / 2) * (f > 20))
        return fade_ends(noise, 0.02, 0.04)

    return voice


def _swell(count: int, low: float, period: float) -> Array:
    """Rises and falls between `low` and 1, every `period` seconds."""
    return low + (1 - low) * np.sin(np.pi * (times(count) / period + 0.15)) ** 2


def _ocean(rng: Chance, v: Voicing) -> Array:
    count = frames(v.seconds)
    swell = _swell(count, 0.08, 2.4)
    noise = low_pass(white(rng, count), 500, 1.5) * 2 + low_pass(high_pass(white(rng, count), 800), 5000) * swell
    return fade_ends(noise * swell, 0.05, 0.06)


def _rain(rng: Chance, v: Voicing) -> Array:
    count = frames(v.seconds)
    bed = high_pass(low_pass(white(rng, count), 9000), 1200)
    drops = np.zeros(count)
    places = rng.noise.integers(0, count, int(120 * v.seconds))
    drops[places] = rng.noise.exponential(1.0, len(places))
    drop = sine(rng.uniform(2500, 3500), 300) * decay(300, 0.006)
    size = 1 << (count + 300).bit_length()
    drops = np.fft.irfft(np.fft.rfft(drops, size) * np.fft.rfft(drop, size), size)[:count]
    return fade_ends(0.25 * bed + 0.6 * drops, 0.03, 0.05)


def _wind(rng: Chance, v: Voicing) -> Array:
    count = frames(v.seconds)
    noise = white(rng, count)
    blend = _swell(count, 0.0, 1.8)
    gusts = blend * band_pass(noise, rng.uniform(650, 800), 0.5) + (1 - blend) * band_pass(noise, rng.uniform(320, 400), 0.5)
    return fade_ends(gusts * (0.35 + 0.65 * blend), 0.05, 0.06)


def _thunder(rng: Chance, v: Voicing) -> Array:
    count = frames(min(v.seconds, rng.uniform(2.2, 3.2) * v.stretch))
    rumble = low_pass(white(rng, count), 110, 3)
    crack = low_pass(white(rng, count), 1500) * decay(count, 0.35)
    rolls = decay(count, count / 44_100) * (0.6 + 0.4 * _swell(count, 0.0, 0.7))
    return fade_ends(to_peak(rumble) * rolls + 0.5 * to_peak(crack), 0.004, 0.1)


# -- effects ------------------------------------------------------------------------------------------------------------


def _laser(rng: Chance, v: Voicing) -> Array:
    seconds = rng.uniform(0.3, 0.45) * v.stretch
    count = frames(seconds)
    sweep = 200 + 3000 * np.exp(-times(count) / (0.08 * v.stretch))
    return fade_ends(harmonics(sweep, count, 1 / _K[:4]) * decay(count, 1.8 * seconds), 0.001, 0.02)


def _riser(rng: Chance, v: Voicing) -> Array:
    count = frames(v.seconds)
    share = np.linspace(0, 1, count)
    sweep = 105 * 2 ** (0.87 * times(count))
    air = high_pass(white(rng, count), 2500) * 0.15
    return fade_ends((harmonics(sweep, count, 1 / _K[:8]) * 0.6 + air) * (0.1 + 0.9 * share**1.5), 0.01, 0.01)


def _siren(rng: Chance, v: Voicing) -> Array:
    count = frames(v.seconds)
    sweep = tuned(950) + 320 * np.sin(2 * np.pi * times(count) * tuned(0.67) - np.pi / 2)
    return fade_ends(harmonics(sweep, count, 1 / _K[:5] ** 1.5), 0.01, 0.04)


def _alarm(rng: Chance, v: Voicing) -> Array:
    count = frames(v.seconds)
    on = (times(count) * tuned(4) % 1 < 0.5).astype(float)
    on = np.convolve(on, np.full(88, 1 / 88))[:count]
    return fade_ends((sine(tuned(2000), count) + rng.uniform(0.2, 0.4) * sine(tuned(6000), count)) * on, 0.002, 0.01)


def _coin(rng: Chance, v: Voicing) -> Array:
    seconds = rng.uniform(0.5, 0.65) * v.stretch
    count = frames(seconds)
    pitch = np.where(times(count) < 0.07, 987.77, 1318.51)
    weights = np.array([1, 0, 1 / 3, 0, 1 / 5, 0, 1 / 7])
    return fade_ends(harmonics(pitch, count, weights) * np.where(times(count) < 0.07, 1.0, decay(count, seconds)), 0.001, 0.02)


def _repeated(stroke: Voice, period: float) -> Voice:
    """A stroke every `period` seconds."""

    def voice(rng: Chance, v: Voicing) -> Array:
        track = np.zeros(frames(v.seconds))
        for index in range(int(v.seconds / period) + 1):
            put(track, to_peak(stroke(rng, v)), index * period, rng.uniform(0.85, 1.0), GRID)
        return fade_ends(track, 0.0005, 0.02)

    return voice


def _step(rng: Chance, _: Voicing) -> Array:
    count = frames(0.16)
    heel = low_pass(white(rng, count), 260, 3) * decay(count, 0.12)
    sole = band_pass(white(rng, count), 900, 1.5) * decay(count, 0.09)
    return fade_ends(to_peak(heel) + 0.35 * to_peak(sole), 0.001, 0.01)


def _tick(rng: Chance, _: Voicing) -> Array:
    count = frames(0.04)
    return fade_ends((sine(2750, count) + 0.4 * white(rng, count)) * decay(count, 0.025), 0.0003, 0.005)


def _engine(rng: Chance, v: Voicing) -> Array:
    count = frames(v.seconds)
    firing = harmonics(tuned(42), count, (1 / _K[:24]) * rng.uniform(0.4, 1.0, 24))
    rattle = low_pass(white(rng, count), 700) * (0.5 + 0.5 * sine(tuned(42), count))
    return fade_ends(firing + 0.5 * rattle, 0.03, 0.05)


def _telephone(rng: Chance, v: Voicing) -> Array:
    count = frames(v.seconds)
    strike = 0.5 + 0.5 * np.abs(sine(tuned(10), count))
    ringing = (
        sine(tuned(1300), count)
        + rng.uniform(0.6, 1.0) * sine(tuned(1775), count)
        + rng.uniform(0.1, 0.4) * sine(tuned(3120), count)
    ) * strike
    on = np.convolve((times(count) * tuned(0.67) % 1 < 0.6).astype(float), np.full(441, 1 / 441))[:count]
    return fade_ends(ringing * on, 0.003, 0.02)


def _drop(rng: Chance, v: Voicing) -> Array:
    seconds = 0.16 * v.stretch
    count = frames(seconds)
    sweep = 650 * (1 + 1.3 * times(count) / seconds)
    return fade_ends(sine(sweep, count) * attack(count, 0.006) * decay(count, seconds), 0.001, 0.01)


VOICES: dict[str, Voice] = {
    "sine": _held_wave(lambda rng: np.ones(1)),
    "triangle": _held_wave(lambda rng: np.where(_K % 2 == 1, (-1.0) ** (_K // 2) / _K**2, 0.0)),
    "square": _held_wave(lambda rng: np.where(_K % 2 == 1, _K ** -rng.uniform(1.0, 1.15), 0.0)),
    "saw": _held_wave(lambda rng: _K ** -rng.uniform(1.0, 1.15)),
    "organ": _held_wave(_organ),
    "plucked string": _plucked,
    "bell": _bell,
    "kick": _kick,
    "snare": _snare,
    "clap": _clap,
    "closed hat": _closed_hat,
    "open hat": _open_hat,
    "tom": _tom,
    "cymbal": _cymbal,
    **{f"{style} loop": _loop(style) for style in STYLES},
    "white noise": _noise(0.0),
    "pink noise": _noise(1.0),
    "brown noise": _noise(2.0),
    "ocean waves": _ocean,
    "rain": _rain,
    "wind": _wind,
    "thunder": _thunder,
    "laser": _laser,
    "riser": _riser,
    "siren": _siren,
    "alarm": _alarm,
    "coin": _coin,
    "footsteps": _repeated(_step, 0.55),
    "engine": _engine,
    "telephone": _telephone,
    "clock": _repeated(_tick, 0.5),
    "water drop": _drop,
}

TONES = ("sine", "triangle", "square", "saw", "organ", "plucked string", "bell")
LOOPS = tuple(f"{style} loop" for style in STYLES)
ENDING = (
    "plucked string",
    "bell",
    "kick",
    "snare",
    "clap",
    "closed hat",
    "open hat",
    "tom",
    "cymbal",
    "thunder",
    "laser",
    "coin",
    "water drop",
)
"""Kinds that end by themselves; all others go on as long as they are asked to."""
