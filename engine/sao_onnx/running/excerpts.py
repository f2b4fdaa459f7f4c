"""Parts of a clip's work on inputs of their real size, to be measured."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sao_onnx.bundle.manifest import Manifest
from sao_onnx.sampling.noise import Noise
from sao_onnx.stages.autoencoder import Decoder
from sao_onnx.stages.conditioning import Conditioning
from sao_onnx.stages.denoiser import Denoiser

EXCERPT = 64
"""Latents that are decoded to measure the decoder: enough for several tiles of each size."""


def one_step(manifest: Manifest, denoiser: Denoiser) -> Callable[[], object]:
    """One step of the DiT over the whole window, on noise."""
    conditioning, latents = manifest.conditioning, manifest.latents
    noise = Noise(0)
    predict = denoiser.prediction(
        Conditioning(
            noise.normal((1, context_tokens(manifest), conditioning.width)),
            noise.normal((1, conditioning.width * len(conditioning.global_condition))),
        )
    )
    x = noise.normal((1, latents.channels, manifest.window_latents))
    return lambda: predict(x, np.float32(0.5))


def excerpt(manifest: Manifest, decoder: Decoder) -> Callable[[], object]:
    """Decoding of `excerpt_length` latents of noise."""
    latents, length = manifest.latents, excerpt_length(manifest)
    x = Noise(0).normal((1, latents.channels, length))
    return lambda: list(decoder(x, length * latents.ratio))


def excerpt_length(manifest: Manifest) -> int:
    """`EXCERPT`, or the latents of the window where it has fewer."""
    return min(EXCERPT, manifest.window_latents)


def context_tokens(manifest: Manifest) -> int:
    """Tokens that the DiT's cross-attention reads: those of the prompt, padding included, and one for each number."""
    return manifest.conditioning.prompt.max_length + len(manifest.conditioning.cross_attention) - 1
