"""The DiT as a function of noisy latents and a sigma, with guidance around it."""

from __future__ import annotations

import numpy as np

from sao_onnx.arrays import Array
from sao_onnx.runtime.sessions import GraphSession
from sao_onnx.sampling.samplers import Predict
from sao_onnx.stages.conditioning import Conditioning


class Denoiser:
    """The diffusion transformer.

    Args:
        context: Conditioning tokens to the keys and values of every cross-attention.
        dit: What runs at every step.
    """

    def __init__(self, context: GraphSession, dit: GraphSession) -> None:
        self._context = context
        self._dit = dit

    def prediction(self, conditioning: Conditioning) -> Predict:
        """The network under a conditioning. What depends on the conditioning alone is computed here, once."""
        keys, values = self._context.run(cross_attention=conditioning.cross_attention)

        def predict(x: Array, sigma: np.float32) -> Array:
            (predicted,) = self._dit.run(
                latents=x,
                times=np.full(len(x), sigma, dtype=np.float32),
                keys=keys,
                values=values,
                global_condition=conditioning.global_condition,
            )
            return predicted

        return predict

    def guided(self, positive: Conditioning, negative: Conditioning | None, scale: float) -> Predict:
        """The network with classifier-free guidance: `p = p₋ + scale·(p₊ − p₋)` (Ho and Salimans, 2022).

        Both passes run as one batch of twice the size. As in the reference, the second one sees the negative's tokens, or zeros
        where there is none, and the positive's global condition.

        Args:
            positive: What to approach.
            negative: What to avoid.
            scale: 1 is no guidance.
        """
        against = np.zeros_like(positive.cross_attention) if negative is None else negative.cross_attention
        both = self.prediction(
            Conditioning(
                np.concatenate([positive.cross_attention, against]),
                np.concatenate([positive.global_condition, positive.global_condition]),
            )
        )
        factor = np.float32(scale)

        def predict(x: Array, sigma: np.float32) -> Array:
            towards, away = np.split(both(np.concatenate([x, x]), sigma), 2)
            return away + factor * (towards - away)

        return predict
