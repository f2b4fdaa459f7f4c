"""Sampling that keeps a part of known latents while the rest is made anew."""

from __future__ import annotations

import numpy as np

from sao_onnx.arrays import Array
from sao_onnx.sampling.objectives import Objective
from sao_onnx.sampling.samplers import Predict


def inpainting(predict: Predict, objective: Objective, known: Array, weights: Array) -> Predict:
    """A network whose estimate of the clean latents is `known` where they are to be kept.

    At every sigma a sampler then sees the known latents with noise of that sigma, and the network makes the others fit to
    them (Lugmayr et al., "RePaint", 2022, without its resampling). At the end the kept latents are the known ones.

    Args:
        predict: The network.
        objective: Its objective.
        known: Clean latents, [b, channels, n].
        weights: How much of them to keep, [n], 0 to 1.
    """

    def blended(x: Array, sigma: np.float32) -> Array:
        denoised = objective.denoised(x, predict(x, sigma), sigma)
        return objective.prediction(x, weights * known + (1 - weights) * denoised, sigma)

    return blended
