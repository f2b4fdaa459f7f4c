"""The DiT as a velocity function, with guidance around it."""

from __future__ import annotations

import numpy as np

from sao_onnx.arrays import Array
from sao_onnx.runtime.sessions import GraphSession
from sao_onnx.sampling.samplers import Velocity
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

    def velocity(self, conditioning: Conditioning) -> Velocity:
        """The velocity function under a conditioning. What depends on the conditioning alone is computed here, once."""
        keys, values = self._context.run(cross_attention=conditioning.cross_attention)

        def velocity(x: Array, level: np.float32) -> Array:
            (v,) = self._dit.run(
                latents=x,
                times=np.full(len(x), level, dtype=np.float32),
                keys=keys,
                values=values,
                global_condition=conditioning.global_condition,
            )
            return v

        return velocity

    def guided(self, positive: Conditioning, negative: Conditioning | None, scale: float) -> Velocity:
        """The velocity function with classifier-free guidance: `v = v₋ + scale·(v₊ − v₋)` (Ho and Salimans, 2022).

        Both passes run as one batch of twice the size. As in the reference, the second one sees the negative's tokens, or zeros
        where there is none, and the positive's global condition.

        Args:
            positive: What to approach.
            negative: What to avoid.
            scale: 1 is no guidance.
        """
        against = np.zeros_like(positive.cross_attention) if negative is None else negative.cross_attention
        both = self.velocity(
            Conditioning(
                np.concatenate([positive.cross_attention, against]),
                np.concatenate([positive.global_condition, positive.global_condition]),
            )
        )
        factor = np.float32(scale)

        def velocity(x: Array, level: np.float32) -> Array:
            towards, away = np.split(both(np.concatenate([x, x]), level), 2)
            return away + factor * (towards - away)

        return velocity
