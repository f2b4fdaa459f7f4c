"""8-bit weights of convolutions that no processor can make overflow.

x86 processors without VNNI add two neighbouring products of unsigned activations and signed weights in 16 bits that saturate.
255 × 128 is what they hold, so two neighbouring weights of one sign may add up to 128. Neighbours are the input channels 2i and
2i + 1 of one tap: ONNX Runtime's kernels read the weights tap by tap, channel by channel.
"""

from __future__ import annotations

import numpy as np

from sao_onnx_convert.export.builder import Array
from sao_onnx_convert.quantize.ranges import TINY

LARGEST = 127
"""Of a weight."""

TOGETHER = 128
"""Of two neighbours of one sign."""


def quantize_in_pairs(weight: Array) -> tuple[Array, Array]:
    """Codes of weights [outputs, inputs, kernel], and each output channel's step: the least at which no pair overflows."""
    steps = np.maximum(np.abs(weight).max(axis=(1, 2)) / LARGEST, sums(weight).max(axis=1) / TOGETHER)
    steps = np.maximum(steps, TINY)
    exact = _flat(weight) / steps[:, None]
    codes = np.round(exact)
    # Both of a pair may have been rounded up: the one that was rounded further goes back.
    pairs = _pairs(codes)
    over = _sums(pairs) > TOGETHER
    further = np.argmax(np.abs(pairs) - np.abs(_pairs(exact)), axis=2)
    for position in (0, 1):
        back = over & (further == position)
        pairs[:, :, position] -= np.where(back, np.sign(pairs[:, :, position]), 0)
    outputs, inputs, kernel = weight.shape
    return pairs.reshape(outputs, -1)[:, : inputs * kernel].reshape(outputs, kernel, inputs).transpose(0, 2, 1), steps


def sums(weight: Array) -> Array:
    """The magnitude of the sum of every two neighbours, 0 where their signs differ; [outputs, pairs]."""
    return _sums(_pairs(_flat(weight)))


def _flat(weight: Array) -> Array:
    return weight.transpose(0, 2, 1).reshape(len(weight), -1)


def _pairs(flat: Array) -> Array:
    return np.pad(flat, ((0, 0), (0, flat.shape[1] % 2))).reshape(len(flat), -1, 2)


def _sums(pairs: Array) -> Array:
    first, second = pairs[:, :, 0], pairs[:, :, 1]
    return np.where(first * second > 0, np.abs(first + second), 0)
