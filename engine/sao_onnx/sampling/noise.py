"""Normal noise from a seed: the numbers that PyTorch's generator for the CPU draws.

So a seed means the same clip here and in the reference. Both use MT19937 (Matsumoto and Nishimura, 1998) with its classic
initialization, which `numpy.random.RandomState.seed` has as well. The steps from its integers to normal values are rebuilt
here. No global random state is read or changed.
"""

from __future__ import annotations

import math

import numpy as np

from sao_onnx.arrays import Array

_BLOCK = 16


class Noise:
    """A stream of standard normal values.

    Args:
        seed: 0 to 2³² − 1. The generator takes 32 bits; the reference drops the others of a longer seed.
    """

    def __init__(self, seed: int) -> None:
        self._bits = np.random.MT19937()
        np.random.RandomState(self._bits).seed(seed)
        self._spare: float | None = None

    def normal(self, shape: tuple[int, ...]) -> Array:
        """Draw float32 values of the given shape, as `torch.randn` does on the CPU, to a few units in the last place."""
        count = math.prod(shape)
        if count >= _BLOCK:
            return self._blocks(count).reshape(shape)
        return np.array([self._single() for _ in range(count)], dtype=np.float32).reshape(shape)

    def _blocks(self, count: int) -> Array:
        """PyTorch's `normal_fill`: Box-Muller on blocks of 16 uniform values. An incomplete last block is drawn again."""
        uniform = self._uniform(count)
        whole = count - count % _BLOCK
        normal = np.concatenate([_box_muller(uniform[:whole]), uniform[whole:]])
        if whole < count:
            normal[-_BLOCK:] = _box_muller(self._uniform(_BLOCK))
        return normal

    def _uniform(self, count: int) -> Array:
        """Uniform values in [0, 1) of 24 bits, one output of the generator each."""
        return (self._bits.random_raw(count) & 0xFFFFFF).astype(np.float32) * np.float32(2.0**-24)

    def _single(self) -> float:
        """PyTorch's `normal_distribution<double>`: Box-Muller on pairs of 53-bit values; every second result is kept."""
        if self._spare is not None:
            value, self._spare = self._spare, None
            return value
        angle = 2.0 * math.pi * self._uniform53()
        radius = math.sqrt(-2.0 * math.log1p(-self._uniform53()))
        self._spare = radius * math.sin(angle)
        return radius * math.cos(angle)

    def _uniform53(self) -> float:
        high, low = (int(word) for word in self._bits.random_raw(2))
        return ((high << 32 | low) & (2**53 - 1)) * 2.0**-53


def _box_muller(uniform: Array) -> Array:
    """Normal values from blocks of 16 uniform ones: eight give radii and eight give angles. Cosines come first, then sines.

    Every intermediate is rounded to single precision where PyTorch rounds it. The functions themselves are evaluated in double
    precision, because NumPy's single-precision ones differ between processors.
    """
    radii, angles = uniform.reshape(-1, 2, _BLOCK // 2).swapaxes(0, 1)
    log = np.log((1 - radii).astype(np.float64)).astype(np.float32)
    radius = np.sqrt(np.float32(-2) * log)
    angle = (np.float32(2 * math.pi) * angles).astype(np.float64)
    cosine, sine = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
    return np.stack([radius * cosine, radius * sine], axis=1).reshape(-1)
