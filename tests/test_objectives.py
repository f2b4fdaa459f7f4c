from __future__ import annotations

import math

import numpy as np
import pytest

from sao_onnx.errors import RequestError
from sao_onnx.option import Kind
from sao_onnx.request import LEAST_NOISE_LEVEL, kinds
from sao_onnx.sampling.objectives import OBJECTIVES, RectifiedFlow

FLOW = RectifiedFlow()
SIGMAS = [np.float32(sigma) for sigma in (1.0, 0.7, 0.12, 0.01)]


@pytest.mark.parametrize(("steps", "start"), [(8, 1.0), (4, 1.0), (8, 0.7), (1, 1.0), (50, 1.0)])
def test_sigmas_are_the_reference_s(golden, steps, start):
    np.testing.assert_allclose(FLOW.sigmas(steps, start), golden[f"schedule_{steps}_{start}"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)
@pytest.mark.parametrize("steps", [1, 2, 3, 8, 100, 1000])
@pytest.mark.parametrize("start", [1.0, 0.999, 0.7, 0.5, 0.2, LEAST_NOISE_LEVEL])
def test_sigmas_fall_from_the_start_to_zero(objective, steps, start):
    sigmas = objective.sigmas(steps, start)
    assert sigmas.dtype == np.float32
    assert len(sigmas) == steps + 1
    assert sigmas[0] == np.float32(start)
    assert sigmas[-1] == 0
    assert (np.diff(sigmas) < 0).all()


@pytest.mark.parametrize(("start", "rises"), [(0.119, True), (RectifiedFlow().least_start, False)])
def test_below_the_least_start_they_would_rise(start, rises):
    """The reference's schedule of eight steps, which has no such limit."""
    sigmas = 1 / (1 + np.exp(np.linspace(math.log((1 - start) / start + 1e-6), 2, 9)))
    sigmas[0], sigmas[-1] = start, 0
    assert (np.diff(sigmas) > 0).any() == rises


@pytest.mark.parametrize("start", [0.0, 0.05, 0.119, 1.01, -1, float("nan"), float("inf")])
def test_refuses_starts_outside_the_usable_range(start):
    with pytest.raises(RequestError, match=r"init_noise_level is .* expected 0.12 to 1; below that"):
        FLOW.sigmas(8, start)


@pytest.mark.parametrize("steps", [0, -3])
def test_refuses_no_steps(steps):
    with pytest.raises(RequestError, match=f"steps is {steps}, expected at least 1"):
        FLOW.sigmas(steps)


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)
@pytest.mark.parametrize("sigma", SIGMAS)
def test_what_is_predicted_and_what_it_stands_for(objective, sigma):
    """Noise added to clean latents comes off again, given the network's true answer."""
    random = np.random.default_rng(0)
    clean, noise = (random.standard_normal((1, 2, 5)).astype(np.float32) for _ in range(2))
    x = objective.add_noise(clean, noise, sigma)
    np.testing.assert_allclose(x, (1 - sigma) * clean + sigma * noise, atol=1e-6)
    np.testing.assert_allclose(objective.denoised(x, noise - clean, sigma), clean, atol=1e-6)
    prediction = objective.prediction(x, clean, sigma)
    assert prediction.dtype == np.float32
    np.testing.assert_allclose(prediction, noise - clean, atol=1e-4)
    np.testing.assert_allclose(objective.denoised(x, prediction, sigma), clean, atol=1e-6)
    # dx/dσ of x(σ) = (1 − σ)·clean + σ·noise.
    np.testing.assert_array_equal(objective.derivative(x, prediction, sigma), prediction)


def test_log_snr():
    assert FLOW.log_snr(np.float32(1)) == -math.inf
    assert FLOW.log_snr(np.float32(0)) == math.inf
    assert FLOW.log_snr(np.float32(0.5)) == 0
    assert FLOW.log_snr(np.float32(0.25)) == pytest.approx(math.log(3))
    assert FLOW.signal(np.float32(0.25)) == np.float32(0.75)


def test_strength_covers_the_usable_range():
    kind: Kind = kinds()["init_noise_level"]
    (strength,) = kind.option.spellings
    assert strength.read(0) == {"init_noise_level": LEAST_NOISE_LEVEL}
    assert strength.read("1") == {"init_noise_level": 1}
    assert strength.read(0.25)["init_noise_level"] < strength.read(0.5)["init_noise_level"]
    for wrong in (-0.1, 1.1, float("nan"), "loud"):
        with pytest.raises(ValueError, match="expected"):
            strength.read(wrong)


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)
def test_every_objective_can_start_from_the_least_strength(objective):
    assert objective.least_start <= LEAST_NOISE_LEVEL
