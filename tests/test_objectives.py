from __future__ import annotations

import numpy as np
import pytest
from sao_onnx.sampling.schedules import MIN_NOISE_LEVEL, noise_level, schedule

from sao_onnx.errors import RequestError


@pytest.mark.parametrize(("steps", "level"), [(8, 1.0), (4, 1.0), (8, 0.7), (1, 1.0), (50, 1.0)])
def test_is_the_reference_s(golden, steps, level):
    np.testing.assert_allclose(schedule(steps, level), golden[f"schedule_{steps}_{level}"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("steps", [1, 2, 3, 8, 100, 1000])
@pytest.mark.parametrize("level", [1.0, 0.999, 0.7, 0.5, 0.2, MIN_NOISE_LEVEL])
def test_falls_from_the_level_to_zero(steps, level):
    levels = schedule(steps, level)
    assert levels.dtype == np.float32
    assert len(levels) == steps + 1
    assert levels[0] == np.float32(level)
    assert levels[-1] == 0
    assert (np.diff(levels) < 0).all()


def test_below_the_least_level_it_would_rise():
    """Why the least level is what it is: the last but one level is sigmoid(-2 + something), wherever it starts."""
    end = 1 / (1 + np.exp(2.0))
    assert end < MIN_NOISE_LEVEL < end + 0.001


@pytest.mark.parametrize("level", [0.0, 0.05, 0.119, 1.01, -1, float("nan"), float("inf")])
def test_refuses_levels_outside_the_usable_range(level):
    with pytest.raises(RequestError, match=r"noise level is .* expected 0.12 to 1"):
        schedule(8, level)


@pytest.mark.parametrize("steps", [0, -3])
def test_refuses_no_steps(steps):
    with pytest.raises(ValueError, match=f"steps is {steps}, expected at least 1"):
        schedule(steps)


def test_strength_covers_the_usable_range():
    assert noise_level(0) == MIN_NOISE_LEVEL
    assert noise_level(1) == 1
    assert noise_level(0.25) < noise_level(0.5)
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(RequestError, match="expected 0"):
            noise_level(wrong)
