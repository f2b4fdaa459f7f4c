"""The way from noise to latents: one generator for each sampler, one yielded `Step` for each step.

Latents are float32 [b, channels, n]. The network is handed in as a function, and so is the noise: no session, no file, no
random state in here. With `v` the velocity at level `t`, the estimate of the clean latents is `d = x − t·v`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from sao_onnx.arrays import Array
from sao_onnx.bundle.manifest import SamplerName

Velocity = Callable[[Array, np.float32], Array]
"""Velocity at latents [b, channels, n] and a noise level."""

Draw = Callable[[], Array]
"""Fresh noise of the latents' shape."""


@dataclass(frozen=True)
class Step:
    """What a step of sampling gave.

    Attributes:
        index: From 0.
        level: Noise level before the step.
        latents: After the step, [b, channels, n].
        denoised: The network's estimate of the clean latents, [b, channels, n].
    """

    index: int
    level: float
    latents: Array
    denoised: Array


Sampler = Callable[[Velocity, Array, Array, Draw], Iterator[Step]]


def pingpong(velocity: Velocity, x: Array, levels: Array, draw: Draw) -> Iterator[Step]:
    """Denoise fully, add fresh noise of the next level: `x ← (1 − t')·d + t'·noise` (`sample_flow_pingpong`).

    Noise is drawn at every step, the last one included, where it counts for nothing: the reference does so.
    """
    for i, (t, after) in enumerate(itertools.pairwise(levels)):
        denoised = x - t * velocity(x, t)
        x = (1 - after) * denoised + after * draw()
        yield Step(i, float(t), x, denoised)


def euler(velocity: Velocity, x: Array, levels: Array, draw: Draw) -> Iterator[Step]:
    """Follow the velocity: `x ← x + (t' − t)·v` (`sample_discrete_euler`). Draws no noise."""
    for i, (t, after) in enumerate(itertools.pairwise(levels)):
        v = velocity(x, t)
        denoised = x - t * v
        x = x + (after - t) * v
        yield Step(i, float(t), x, denoised)


def dpmpp(velocity: Velocity, x: Array, levels: Array, draw: Draw) -> Iterator[Step]:
    """DPM-Solver++(2M) for rectified flow (`sample_flow_dpmpp`; Lu et al., 2022). Draws no noise."""
    previous: Array | None = None
    last_h = 0.0
    for i, (t, after) in enumerate(itertools.pairwise(levels)):
        denoised = x - t * velocity(x, t)
        h = _log_snr(after) - _log_snr(t)
        target = denoised
        if previous is not None and after > 0:
            weight = np.float32(h / (2 * last_h))
            target = (1 + weight) * denoised - weight * previous
        x = (after / t) * x - (1 - after) * np.float32(math.expm1(-h)) * target
        previous, last_h = denoised, h
        yield Step(i, float(t), x, denoised)


def keeping(velocity: Velocity, known: Array, weights: Array) -> Velocity:
    """The velocity whose estimate of the clean latents is `known` where they are to be kept.

    A sampler that follows it meets, at every level, the known latents with that level's noise over them, beside which the
    others must fit (Lugmayr et al., "RePaint", 2022, without going back); at the end they are the known ones.

    Args:
        velocity: Of the network.
        known: Clean latents, [b, channels, n].
        weights: How much of them to keep, [n], 0 to 1.
    """

    def kept(x: Array, level: np.float32) -> Array:
        denoised = x - level * velocity(x, level)
        return np.asarray((x - (weights * known + (1 - weights) * denoised)) / level, np.float32)

    return kept


def _log_snr(level: np.float32) -> float:
    if level >= 1:
        return -math.inf
    return math.log((1 - float(level)) / float(level)) if level > 0 else math.inf


SAMPLERS: Mapping[SamplerName, Sampler] = {"pingpong": pingpong, "euler": euler, "dpmpp": dpmpp}
"""Every sampler by its name."""
