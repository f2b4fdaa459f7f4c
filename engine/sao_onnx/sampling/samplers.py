"""From noise to latents: one generator for each sampler, one yielded `Step` for each sampling step.

Latents are float32 [b, channels, n]. The network and the noise are handed in as functions: no session, no file, no random state
in here. What a sampler knows of the model is its objective alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from sao_onnx.arrays import Array
from sao_onnx.bundle.manifest import SamplerName
from sao_onnx.sampling.objectives import Objective

Predict = Callable[[Array, np.float32], Array]
"""The network: its prediction at noisy latents [b, channels, n] and a sigma, of the same shape."""

Draw = Callable[[], Array]
"""Fresh normal noise of the latents' shape."""


@dataclass(frozen=True)
class Step:
    """The result of a sampling step.

    Attributes:
        index: From 0.
        sigma: Before the step.
        latents: After the step, [b, channels, n].
        denoised: The estimate of the clean latents, [b, channels, n].
    """

    index: int
    sigma: float
    latents: Array
    denoised: Array


Sampler = Callable[[Predict, Objective, Array, Array, Draw], Iterator[Step]]
"""Arguments: the network, its objective, the latents at the first sigma, the sigmas [steps + 1], the source of noise."""


def pingpong(predict: Predict, objective: Objective, x: Array, sigmas: Array, draw: Draw) -> Iterator[Step]:
    """Denoise fully, then add fresh noise of the next sigma (`sample_flow_pingpong` of stable-audio-tools).

    Noise is drawn at every step, also at the last one, where it is multiplied by 0: the reference does so.
    """
    for i, (sigma, after) in enumerate(itertools.pairwise(sigmas)):
        denoised = objective.denoised(x, predict(x, sigma), sigma)
        x = objective.add_noise(denoised, draw(), after)
        yield Step(i, float(sigma), x, denoised)


def euler(predict: Predict, objective: Objective, x: Array, sigmas: Array, draw: Draw) -> Iterator[Step]:
    """Follow the derivative: `x ← x + (σ' − σ)·dx/dσ` (`sample_discrete_euler`). Draws no noise."""
    for i, (sigma, after) in enumerate(itertools.pairwise(sigmas)):
        prediction = predict(x, sigma)
        denoised = objective.denoised(x, prediction, sigma)
        x = x + (after - sigma) * objective.derivative(x, prediction, sigma)
        yield Step(i, float(sigma), x, denoised)


def dpmpp(predict: Predict, objective: Objective, x: Array, sigmas: Array, draw: Draw) -> Iterator[Step]:
    """DPM-Solver++(2M) (`sample_flow_dpmpp`; Lu et al., "DPM-Solver++", 2022). Draws no noise."""
    previous: Array | None = None
    last_h = 0.0
    for i, (sigma, after) in enumerate(itertools.pairwise(sigmas)):
        denoised = objective.denoised(x, predict(x, sigma), sigma)
        h = objective.log_snr(after) - objective.log_snr(sigma)
        target = denoised
        if previous is not None and after > 0:
            weight = np.float32(h / (2 * last_h))
            target = (1 + weight) * denoised - weight * previous
        x = (after / sigma) * x - objective.signal(after) * np.float32(math.expm1(-h)) * target
        previous, last_h = denoised, h
        yield Step(i, float(sigma), x, denoised)


SAMPLERS: Mapping[SamplerName, Sampler] = {"pingpong": pingpong, "euler": euler, "dpmpp": dpmpp}
"""Every sampler by its name."""
