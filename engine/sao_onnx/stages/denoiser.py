"""The denoiser: the diffusion transformer (DiT) as a function of latents and noise level, with or without guidance."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sao_onnx.arrays import Array
from sao_onnx.runtime.sessions import GraphSession
from sao_onnx.stages.conditioning import Conditioning

Velocity = Callable[[Array, np.float32], Array]
"""Latents, float32 [b, channels, n], and their noise level, to the DiT's output of the same shape."""


class Denoiser:
    """The diffusion transformer.

    Args:
        context: Conditioning tokens to the keys and values of all cross-attention layers. Runs once for a clip.
        dit: Latents and noise level to a velocity. Runs at every step.
    """

    def __init__(self, context: GraphSession, dit: GraphSession) -> None:
        self._context = context
        self._dit = dit

    def velocity(self, conditioning: Conditioning) -> Velocity:
        """The DiT with a conditioning. Keys and values, which depend on the conditioning alone, are computed here.

        Args:
            conditioning: For as many clips as the latents of the function will have.

        Raises:
            NumericalError: The network returned NaN or infinite values. The function itself may raise it as well.
        """
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
        """The DiT with classifier-free guidance: `v = v₋ + scale · (v₊ − v₋)` (Ho and Salimans, 2022).

        `v₊` is the velocity with the positive conditioning, `v₋` the one with the negative. Both are computed in one batch of
        twice the size. As in the reference, `v₋` has the cross-attention tokens of `negative`, or zeros without it, but the
        global condition of `positive`.

        Args:
            positive: Conditioning of the prompt.
            negative: Conditioning of the negative prompt; None if there is none.
            scale: Guidance scale. 1 means no guidance.

        Raises:
            NumericalError: As for `velocity`.
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
            v_positive, v_negative = np.split(both(np.concatenate([x, x]), level), 2)
            return v_negative + factor * (v_positive - v_negative)

        return velocity
