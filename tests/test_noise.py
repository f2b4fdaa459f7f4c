from __future__ import annotations

import numpy as np
import pytest

from sao_onnx.request import MAX_SEED, random_seed
from sao_onnx.sampling.noise import Noise


@pytest.mark.parametrize("seed", [0, 7, 42, MAX_SEED])
def test_draws_are_the_reference_s(golden, seed):
    noise = Noise(seed)
    drawn = np.concatenate([noise.normal(shape).ravel() for shape in ((1, 8, 64), (1, 8, 64), (37,), (5,))])
    np.testing.assert_allclose(drawn, golden[f"randn_seed_{seed}"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("seed", [0, 1, 123456789, MAX_SEED])
def test_draws_are_pytorch_s(seed):
    torch = pytest.importorskip("torch")
    generator, noise = torch.Generator().manual_seed(seed), Noise(seed)
    # Whole blocks, a broken last block, single values in odd number (one result is kept back) and in between.
    for shape in ((16,), (17,), (31,), (1,), (3,), (1, 64, 256), (2,), (15,), (5, 7)):
        expected = torch.randn(shape, generator=generator).numpy()
        found = noise.normal(shape)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_is_normal():
    values = Noise(3).normal((200_000,))
    assert abs(values.mean()) < 0.01
    assert abs(values.std() - 1) < 0.01


def test_leaves_the_global_generator_alone():
    np.random.seed(5)  # noqa: NPY002
    expected = np.random.random()  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    Noise(9).normal((32,))
    assert np.random.random() == expected  # noqa: NPY002


def test_random_seeds_differ_and_fit():
    seeds = {random_seed() for _ in range(20)}
    assert len(seeds) > 15
    assert all(0 <= seed <= MAX_SEED for seed in seeds)


def test_no_values():
    assert Noise(1).normal((0, 4)).shape == (0, 4)
