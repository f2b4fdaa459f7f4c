"""What a model was trained to predict: its noise schedule, and the way from a prediction to clean latents.

An objective is all that a sampler knows of a model. Latents are float32 [b, channels, n], sigmas float32 numbers from 1 (noise
alone) to 0 (no noise).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Protocol

import numpy as np

from sao_onnx.arrays import Array
from sao_onnx.bundle.manifest import ObjectiveName
from sao_onnx.errors import RequestError


class Objective(Protocol):
    """The mathematics of a training objective."""

    @property
    def least_start(self) -> float:
        """The least sigma that sampling can start from."""
        ...

    def sigmas(self, steps: int, start: float = 1.0) -> Array:
        """Sigmas from `start` down to 0, strictly falling, float32 [steps + 1]."""
        ...

    def signal(self, sigma: np.float32) -> np.float32:
        """The factor of the clean latents in noisy latents at `sigma`."""
        ...

    def log_snr(self, sigma: np.float32) -> float:
        """Logarithm of the ratio of `signal` to `sigma`; ±inf where one of them is 0."""
        ...

    def add_noise(self, clean: Array, noise: Array, sigma: np.float32) -> Array:
        """Noisy latents at `sigma`."""
        ...

    def denoised(self, x: Array, prediction: Array, sigma: np.float32) -> Array:
        """The estimate of the clean latents that a prediction of the network stands for."""
        ...

    def prediction(self, x: Array, denoised: Array, sigma: np.float32) -> Array:
        """The prediction that stands for an estimate of the clean latents: the inverse of `denoised`. `sigma` is above 0."""
        ...

    def derivative(self, x: Array, prediction: Array, sigma: np.float32) -> Array:
        """dx/dσ of the ordinary differential equation that leads from noise to clean latents."""
        ...


class RectifiedFlow:
    """Noisy latents `x = (1 − σ)·clean + σ·noise`; the network predicts the velocity `v = noise − clean`.

    Liu et al., "Flow Straight and Fast" (2022). The schedule is that of `sample_rf` of stable-audio-tools 0.0.19, which uses it
    for `rf_denoiser` and `rectified_flow` alike: even steps in log-SNR.
    """

    LOGSNR_START = -6.0
    LOGSNR_END = 2.0

    @property
    def least_start(self) -> float:
        """0.12. Steps are laid out up to a log-SNR of 2, a sigma of sigmoid(−2) ≈ 0.1192; from below, sigmas would rise."""
        return 0.12

    def sigmas(self, steps: int, start: float = 1.0) -> Array:
        """Sigmas evenly spaced in log-SNR: `σ = sigmoid(−logsnr)`, both ends then set exactly.

        Args:
            steps: Sampling steps, at least 1.
            start: 1 for text-to-audio; for audio-to-audio the share of noise at the start, `least_start` to 1.

        Returns:
            float32 [steps + 1], strictly falling.

        Raises:
            RequestError: A value outside its range.
        """
        if steps < 1:
            raise RequestError(f"steps is {steps}, expected at least 1")
        if not self.least_start <= start <= 1:
            raise RequestError(
                f"init_noise_level is {start}, expected {self.least_start} to 1; below that the model's schedule would add "
                "noise instead of removing it"
            )
        first = self.LOGSNR_START if start == 1 else math.log((1 - start) / start + 1e-6)
        sigmas = 1 / (1 + np.exp(np.linspace(first, self.LOGSNR_END, steps + 1)))
        sigmas[0], sigmas[-1] = start, 0.0
        return sigmas.astype(np.float32)

    def signal(self, sigma: np.float32) -> np.float32:
        """`1 − σ`."""
        return np.float32(1 - sigma)

    def log_snr(self, sigma: np.float32) -> float:
        """`log((1 − σ) / σ)`, in double precision."""
        if sigma >= 1:
            return -math.inf
        return math.log((1 - float(sigma)) / float(sigma)) if sigma > 0 else math.inf

    def add_noise(self, clean: Array, noise: Array, sigma: np.float32) -> Array:
        """`(1 − σ)·clean + σ·noise`."""
        noisy: Array = (1 - sigma) * clean + sigma * noise
        return noisy

    def denoised(self, x: Array, prediction: Array, sigma: np.float32) -> Array:
        """`x − σ·v`."""
        clean: Array = x - sigma * prediction
        return clean

    def prediction(self, x: Array, denoised: Array, sigma: np.float32) -> Array:
        """`(x − denoised) / σ`."""
        return np.asarray((x - denoised) / sigma, np.float32)

    def derivative(self, x: Array, prediction: Array, sigma: np.float32) -> Array:
        """The velocity itself."""
        return prediction


OBJECTIVES: Mapping[ObjectiveName, Objective] = {"rf_denoiser": RectifiedFlow(), "rectified_flow": RectifiedFlow()}
"""Every objective by its name in a manifest.

`rf_denoiser` models are rectified-flow models that were trained further to estimate clean latents in few steps. Both names
mean the same arithmetic; they differ in the sampling defaults of their manifests.
"""
