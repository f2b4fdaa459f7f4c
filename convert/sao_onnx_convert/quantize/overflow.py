"""8-bit weights of convolutions that overflow on no processor.

x86 processors without VNNI multiply unsigned activations by signed weights, and add every two neighbouring results in 16 bits
that saturate. These hold 255 × 128, so two neighbouring weights of the same sign may add up to 128. Neighbours are the input
channels 2i and 2i + 1 of one tap, because ONNX Runtime's kernels read the weights tap by tap and channel by channel.
"""

from __future__ import annotations

import numpy as np

from sao_onnx_convert.export.builder import Array
from sao_onnx_convert.quantize.constants import INT8_MAX, MIN_SCALE

MAX_PAIR_SUM = 128
"""The largest sum of two neighbouring weights of the same sign."""


def quantize_without_overflow(weight: Array) -> tuple[Array, Array]:
    """Quantize the weights of a convolution.

    Args:
        weight: [outputs, inputs, kernel].

    Returns:
        Quantized weights, whole numbers in float64 of the same shape; and the scale of each output channel, [outputs], the
        least at which no pair of neighbours overflows.
    """
    scales = np.maximum(np.abs(weight).max(axis=(1, 2)) / INT8_MAX, pair_sums(weight).max(axis=1) / MAX_PAIR_SUM)
    scales = np.maximum(scales, MIN_SCALE)
    exact = _flat(weight) / scales[:, None]
    quantized = np.round(exact)
    # Both weights of a pair may have been rounded away from zero. Then the one that was rounded further is rounded back.
    pairs = _pairs(quantized)
    too_large = _pair_sums(pairs) > MAX_PAIR_SUM
    further = np.argmax(np.abs(pairs) - np.abs(_pairs(exact)), axis=2)
    for position in (0, 1):
        back = too_large & (further == position)
        pairs[:, :, position] -= np.where(back, np.sign(pairs[:, :, position]), 0)
    outputs, inputs, kernel = weight.shape
    return pairs.reshape(outputs, -1)[:, : inputs * kernel].reshape(outputs, kernel, inputs).transpose(0, 2, 1), scales


def pair_sums(weight: Array) -> Array:
    """The magnitude of the sum of every two neighbours, 0 where their signs differ; [outputs, pairs].

    Args:
        weight: [outputs, inputs, kernel].
    """
    return _pair_sums(_pairs(_flat(weight)))


def _flat(weight: Array) -> Array:
    return weight.transpose(0, 2, 1).reshape(len(weight), -1)


def _pairs(flat: Array) -> Array:
    return np.pad(flat, ((0, 0), (0, flat.shape[1] % 2))).reshape(len(flat), -1, 2)


def _pair_sums(pairs: Array) -> Array:
    first, second = pairs[:, :, 0], pairs[:, :, 1]
    return np.where(first * second > 0, np.abs(first + second), 0)
