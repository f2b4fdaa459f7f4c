from __future__ import annotations

import numpy as np
import pytest
from sao_onnx.sampling.schedules import schedule

from sao_onnx.sampling.samplers import SAMPLERS

SHAPE = (2, 3, 10)


def _noise(seed=0):
    random = np.random.default_rng(seed)
    return lambda: random.standard_normal(SHAPE, dtype=np.float32)


def _towards(target):
    """The velocity of a perfect model that knows where it is going: x = (1 − t)·target + t·noise, so v = (x − target)/t."""
    return lambda x, t: (x - target) / t


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("steps", [1, 2, 8])
def test_a_perfect_model_arrives(name, steps):
    target = np.linspace(-1, 1, np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
    draw = _noise()
    *_, last = SAMPLERS[name](_towards(target), draw(), schedule(steps), draw)
    np.testing.assert_allclose(last.latents, target, atol=1e-5)
    np.testing.assert_allclose(last.denoised, target, atol=1e-5)
    assert last.latents.dtype == np.float32


@pytest.mark.parametrize("name", SAMPLERS)
def test_yields_every_step_with_its_level(name):
    levels = schedule(5)
    draw = _noise()
    steps = list(SAMPLERS[name](lambda x, t: 0.5 * x, draw(), levels, draw))
    assert [step.index for step in steps] == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal([step.level for step in steps], levels[:-1])


def test_is_lazy():
    """Between two steps nothing runs, so whoever stops iterating stops the work."""
    calls = []

    def velocity(x, t):
        calls.append(t)
        return x

    steps = SAMPLERS["pingpong"](velocity, np.ones(SHAPE, np.float32), schedule(8), _noise())
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

    list(SAMPLERS[name](lambda x, t: x, np.ones(SHAPE, np.float32), schedule(4), draw))
    assert count == draws


def test_dpmpp_is_of_second_order():
    """On a smooth field it is far closer to the solution than Euler with as many steps."""
    start = np.ones((1, 1, 1), np.float32)
    solution = np.exp(-1.0)  # dx/dt = x from t = 1 to 0

    def error(name):
        levels = np.linspace(1, 0, 21).astype(np.float32)
        *_, last = SAMPLERS[name](lambda x, t: x, start, levels, _noise())
        return abs(float(last.latents[0, 0, 0]) - solution)

    assert error("dpmpp") < error("euler") / 5
