from __future__ import annotations

import math
from typing import cast, get_args

import numpy as np
import pytest

from sao_onnx.bundle.manifest import SamplerName
from sao_onnx.sampling.inpainting import inpainting
from sao_onnx.sampling.objectives import OBJECTIVES, Objective, RectifiedFlow
from sao_onnx.sampling.samplers import SAMPLERS

SHAPE = (2, 3, 10)
FLOW = RectifiedFlow()


def _noise(seed=0):
    random = np.random.default_rng(seed)
    return lambda: random.standard_normal(SHAPE, dtype=np.float32)


def _towards(target):
    """The prediction of a perfect model that knows where it is going, under any objective."""
    return lambda x, sigma: FLOW.prediction(x, target, sigma)


def test_every_name_has_its_sampler():
    assert tuple(SAMPLERS) == get_args(SamplerName)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("steps", [1, 2, 8])
def test_a_perfect_model_arrives(name, steps):
    target = np.linspace(-1, 1, np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
    draw = _noise()
    *_, last = SAMPLERS[name](_towards(target), FLOW, draw(), FLOW.sigmas(steps), draw)
    np.testing.assert_allclose(last.latents, target, atol=1e-5)
    np.testing.assert_allclose(last.denoised, target, atol=1e-5)
    assert last.latents.dtype == np.float32


@pytest.mark.parametrize("name", SAMPLERS)
def test_yields_every_step_with_its_sigma(name):
    sigmas = FLOW.sigmas(5)
    draw = _noise()
    steps = list(SAMPLERS[name](lambda x, sigma: 0.5 * x, FLOW, draw(), sigmas, draw))
    assert [step.index for step in steps] == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal([step.sigma for step in steps], sigmas[:-1])


@pytest.mark.parametrize("name", SAMPLERS)
def test_is_lazy(name):
    """Between two steps nothing runs, so whoever stops iterating stops the work."""
    calls = []

    def predict(x, sigma):
        calls.append(sigma)
        return x

    steps = SAMPLERS[name](predict, FLOW, np.ones(SHAPE, np.float32), FLOW.sigmas(8), _noise())
    next(steps)
    next(steps)
    assert len(calls) == 2


@pytest.mark.parametrize(("name", "draws"), [("pingpong", 4), ("euler", 0), ("dpmpp", 0)])
def test_noise_drawn(name, draws):
    count = 0

    def draw():
        nonlocal count
        count += 1
        return np.zeros(SHAPE, np.float32)

    list(SAMPLERS[name](lambda x, sigma: x, FLOW, np.ones(SHAPE, np.float32), FLOW.sigmas(4), draw))
    assert count == draws


def test_dpmpp_is_of_second_order():
    """On a smooth field it is far closer to the solution than Euler with as many steps."""
    start = np.ones((1, 1, 1), np.float32)
    solution = np.exp(-1.0)  # dx/dt = x from t = 1 to 0

    def error(name):
        sigmas = np.linspace(1, 0, 21).astype(np.float32)
        *_, last = SAMPLERS[name](lambda x, sigma: x, FLOW, start, sigmas, _noise())
        return abs(float(last.latents[0, 0, 0]) - solution)

    assert error("dpmpp") < error("euler") / 5


class _Tilted:
    """An objective unlike rectified flow: x = cos(σπ/2)·clean + sin(σπ/2)·noise, and the network predicts the clean latents."""

    def signal(self, sigma):
        return np.float32(math.cos(float(sigma) * math.pi / 2))

    def log_snr(self, sigma):
        angle = float(sigma) * math.pi / 2
        return math.inf if sigma == 0 else -math.inf if sigma == 1 else math.log(1 / math.tan(angle))

    def add_noise(self, clean, noise, sigma):
        return self.signal(sigma) * clean + np.float32(math.sin(float(sigma) * math.pi / 2)) * noise

    def denoised(self, x, prediction, sigma):
        return prediction

    def prediction(self, x, denoised, sigma):
        return denoised


def test_a_sampler_knows_nothing_but_the_objective():
    """Ping-pong on an objective that it has never seen: what it hands the network is that objective's noise."""
    clean, draw = np.full(SHAPE, 3, np.float32), _noise(2)
    seen = []

    def predict(x, sigma):
        seen.append((x, sigma))
        return clean

    sigmas = np.array([1, 0.5, 0.25, 0], np.float32)
    *_, last = SAMPLERS["pingpong"](predict, cast(Objective, _Tilted()), draw(), sigmas, draw)
    np.testing.assert_allclose(last.latents, clean, atol=1e-6)
    again = _noise(2)
    again()
    for x, sigma in seen[1:]:
        np.testing.assert_allclose(x, _Tilted().add_noise(clean, again(), sigma), atol=1e-6)


# What `sample_rf` of stable-audio-tools 0.0.19 computes for both objectives: its formulas, in double precision.


def _reference_sigmas(steps, start):
    least = -6.0 if start >= 1 else math.log((1 - start) / start + 1e-6)
    t = 1 / (1 + np.exp(np.linspace(least, 2.0, steps + 1)))
    t[0], t[-1] = start, 0
    return t


def _reference_euler(v, x, t, draw):
    for i in range(len(t) - 1):
        x = x + (t[i + 1] - t[i]) * v(x, t[i])
    return x


def _reference_pingpong(v, x, t, draw):
    for i in range(len(t) - 1):
        clean = x - t[i] * v(x, t[i])
        x = (1 - t[i + 1]) * clean + t[i + 1] * draw()
    return x


def _reference_dpmpp(v, x, t, draw):
    def log_snr(s):
        with np.errstate(divide="ignore"):
            return np.log((1 - s) / s)

    old = None
    for i in range(len(t) - 1):
        clean = x - t[i] * v(x, t[i])
        h = log_snr(t[i + 1]) - log_snr(t[i])
        if old is None or t[i + 1] == 0:
            x = (t[i + 1] / t[i]) * x - (1 - t[i + 1]) * np.expm1(-h) * clean
        else:
            r = (log_snr(t[i]) - log_snr(t[i - 1])) / h
            extrapolated = (1 + 1 / (2 * r)) * clean - (1 / (2 * r)) * old
            x = (t[i + 1] / t[i]) * x - (1 - t[i + 1]) * np.expm1(-h) * extrapolated
        old = clean
    return x


REFERENCES = {"euler": _reference_euler, "pingpong": _reference_pingpong, "dpmpp": _reference_dpmpp}


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize(("steps", "start"), [(1, 1.0), (8, 1.0), (50, 1.0), (6, 0.7), (6, 0.12)])
def test_equals_the_reference_s_formulas(objective, name, steps, start):
    mix = np.random.default_rng(1).standard_normal((3, 3)) / 3

    def velocity(x, t):
        return np.tanh(np.einsum("ij,bjn->bin", mix, x)) * (1 + t) + 0.1 * x

    chosen, draw, again = OBJECTIVES[objective], _noise(5), _noise(5)
    x = draw()
    again()
    expected = REFERENCES[name](velocity, x.astype(np.float64), _reference_sigmas(steps, start), again)
    steps_made = SAMPLERS[name](lambda x, s: velocity(x, s).astype(np.float32), chosen, x, chosen.sigmas(steps, start), draw)
    *_, last = steps_made
    np.testing.assert_allclose(last.latents, expected, atol=2e-5)


@pytest.mark.parametrize("name", SAMPLERS)
def test_inpainting_arrives_at_what_is_known(name):
    random = np.random.default_rng(0)
    shape = (1, 3, 10)
    known, other = (random.standard_normal(shape).astype(np.float32) for _ in range(2))
    share = np.array([1, 1, 1, 0.75, 0.25, 0, 0, 0, 0, 0], np.float32)
    seen = []

    def predict(x, sigma):
        seen.append((x, sigma))
        return FLOW.prediction(x, other, sigma)

    def draw():
        return random.standard_normal(shape, dtype=np.float32)

    *_, last = SAMPLERS[name](inpainting(predict, FLOW, known, share), FLOW, draw(), FLOW.sigmas(8), draw)
    np.testing.assert_allclose(last.latents, share * known + (1 - share) * other, atol=1e-4)
    # The network meets what is known with the noise of the sigma over it: at a low one it is nearly that.
    x, sigma = seen[-1]
    assert np.abs(x[..., :3] - (1 - sigma) * known[..., :3]).std() < 1.5 * sigma
