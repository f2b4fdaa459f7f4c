"""The denoiser: the diffusion transformer (DiT) as a function of latents and sigma, with or without guidance."""

from __future__ import annotations

import numpy as np

from sao_onnx.arrays import Array
from sao_onnx.runtime.sessions import GraphSession
from sao_onnx.sampling.samplers import Predict
from sao_onnx.stages.conditioning import Conditioning


class Denoiser:
    """The diffusion transformer.

    Args:
        context: Conditioning tokens to the keys and values of all cross-attention layers. Runs once for a clip.
        dit: Noisy latents and sigma to a prediction. Runs at every step.
    """

    def __init__(self, context: GraphSession, dit: GraphSession) -> None:
        self._context = context
        self._dit = dit

    def prediction(self, conditioning: Conditioning) -> Predict:
        """The DiT with a conditioning. Keys and values, which depend on the conditioning alone, are computed here.

        Args:
            conditioning: For as many clips as the latents of the function will have.

        Raises:
            NumericalError: The network returned NaN or infinite values. The function itself may raise it as well.
        """
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
        """The DiT with classifier-free guidance: `p = p₋ + scale · (p₊ − p₋)` (Ho and Salimans, 2022).

        `p₊` is the prediction with the positive conditioning, `p₋` the one with the negative. Both are computed in one batch of
        twice the size. As in the reference, `p₋` has the cross-attention tokens of `negative`, or zeros without it, but the
        global condition of `positive`.

        Args:
            positive: Conditioning of the prompt.
            negative: Conditioning of the negative prompt; None if there is none.
            scale: Guidance scale. 1 means no guidance.

        Raises:
            NumericalError: As for `prediction`.
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
            p_positive, p_negative = np.split(both(np.concatenate([x, x]), sigma), 2)
            return p_negative + factor * (p_positive - p_negative)

        return predict
