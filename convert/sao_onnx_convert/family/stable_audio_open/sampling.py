"""How a model is sampled: the defaults of every objective, and the samplers in PyTorch.

Written after `sample_rf` of stable-audio-tools 0.0.19 (`inference/sampling.py`), which serves both objectives with the same
schedule and the same samplers: the objective decides nothing but the defaults. The network predicts a velocity v at a noise
level σ, and the estimate of the clean latents is `x − σ·v`. The engine has samplers of its own, in NumPy; tests compare the
two.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from sao_onnx.bundle.manifest import ObjectiveName, SamplerName, Sampling

DEFAULTS: Mapping[ObjectiveName, Sampling] = {
    # The model card of Stable Audio Open Small, and `create_sampling_ui` in stable-audio-tools 0.0.19
    # (`interface/interfaces/diffusion_cond.py`, lines 336 to 367).
    "rf_denoiser": Sampling("rf_denoiser", "pingpong", steps=8, cfg_scale=1.0),
    # What fine-tunes of this objective are played with: the plug-in gary4juce starts them with DPM++, 30 steps and guidance 4
    # (version 4.0.13, `Source/Components/Jerry/JerryUI.cpp`, lines 86 and 1006 to 1011). The interface of stable-audio-tools
    # starts with 50 steps and guidance 7, of Euler in 0.0.19 and of DPM++ in 0.0.20 (as above). 30 steps of DPM++ are about as
    # near to the end of the path as 50 of Euler: 31.5 dB against 29.5 without guidance, 18.9 against 19.8 with guidance 4
    # (`bench/results/samplers.md`).
    "rectified_flow": Sampling("rectified_flow", "dpmpp", steps=30, cfg_scale=4.0),
}
"""What a bundle's manifest recommends for a model of each objective."""

Velocity = Callable[[Tensor, Tensor], Tensor]
"""Velocity [b, channels, n] at latents [b, channels, n] and a noise level [1]."""

Noise = Callable[[], Tensor]
"""Draws standard normal noise of the latents' shape."""

Sampler = Callable[[Velocity, Tensor, Tensor, Noise], Iterator[Tensor]]
"""Takes the velocity, the first latents, the sigmas [steps + 1] and the noise; yields the latents after each step."""


def schedule(steps: int) -> Tensor:
    """Sigmas from 1 to 0, evenly spaced in log-SNR from −6 to 2, both ends then set exactly; [steps + 1]."""
    sigmas = torch.sigmoid(-torch.linspace(-6, 2, steps + 1))
    sigmas[0], sigmas[-1] = 1, 0
    return sigmas


def pingpong(velocity: Velocity, x: Tensor, sigmas: Tensor, noise: Noise) -> Iterator[Tensor]:
    """Denoise, then add fresh noise of the next sigma (`sample_flow_pingpong`). The last step draws noise as well."""
    for sigma, following in itertools.pairwise(sigmas):
        denoised = x - sigma * velocity(x, sigma[None])
        x = (1 - following) * denoised + following * noise()
        yield x


def euler(velocity: Velocity, x: Tensor, sigmas: Tensor, noise: Noise) -> Iterator[Tensor]:
    """Follow the velocity from one sigma to the next (`sample_discrete_euler`)."""
    for sigma, following in itertools.pairwise(sigmas):
        x = x + (following - sigma) * velocity(x, sigma[None])
        yield x


def dpmpp(velocity: Velocity, x: Tensor, sigmas: Tensor, noise: Noise) -> Iterator[Tensor]:
    """DPM-Solver++(2M) for rectified flow (`sample_flow_dpmpp`; Lu et al., 2022)."""
    previous: Tensor | None = None
    previous_h = math.inf
    for sigma, following in itertools.pairwise(sigmas):
        denoised = x - sigma * velocity(x, sigma[None])
        h = float(_log_snr(following) - _log_snr(sigma))
        target = denoised
        # The last step, whose h is infinite, is of first order like the first one.
        if previous is not None and following > 0:
            target = denoised + h / (2 * previous_h) * (denoised - previous)
        x = following / sigma * x - (1 - following) * math.expm1(-h) * target
        previous, previous_h = denoised, h
        yield x


SAMPLERS: Mapping[SamplerName, Sampler] = {"pingpong": pingpong, "euler": euler, "dpmpp": dpmpp}
"""Every sampler by its name."""


def _log_snr(sigma: Tensor) -> Tensor:
    """Logarithm of the signal-to-noise ratio: −∞ at a sigma of 1, ∞ at 0."""
    return torch.log((1 - sigma) / sigma)
