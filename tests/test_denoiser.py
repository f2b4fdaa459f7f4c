from __future__ import annotations

from typing import cast

import numpy as np

from sao_onnx.runtime.sessions import GraphSession
from sao_onnx.stages.conditioning import Conditioning
from sao_onnx.stages.denoiser import Denoiser


class _Graph:
    """Answers with what a function makes of the inputs, and remembers them."""

    def __init__(self, answer):
        self.answer = answer
        self.seen = []

    def run(self, **inputs):
        self.seen.append(inputs)
        return self.answer(**inputs)


def _denoiser():
    context = _Graph(lambda cross_attention: (cross_attention[None] + 1, cross_attention[None] + 2))
    dit = _Graph(lambda latents, times, keys, values, global_condition: (latents * keys.mean(axis=(0, 2, 3))[:, None, None],))
    return Denoiser(cast(GraphSession, context), cast(GraphSession, dit)), context, dit


def _conditioning(value):
    return Conditioning(np.full((1, 3, 2), value, np.float32), np.full((1, 4), value, np.float32))


def test_the_context_is_computed_once_for_all_steps():
    denoiser, context, dit = _denoiser()
    predict = denoiser.prediction(_conditioning(5))
    x = np.ones((1, 2, 6), np.float32)
    for level in (1.0, 0.5, 0.1):
        np.testing.assert_array_equal(predict(x, np.float32(level)), 6 * x)
    assert len(context.seen) == 1
    assert [call["times"].tolist() for call in dit.seen] == [[1.0], [0.5], [np.float32(0.1)]]
    np.testing.assert_array_equal(dit.seen[0]["values"], np.full((1, 1, 3, 2), 7))


def test_guidance_is_one_batch_of_two():
    denoiser, context, dit = _denoiser()
    predict = denoiser.guided(_conditioning(5), None, 3.0)
    x = np.ones((1, 2, 6), np.float32)
    # Towards 6, away from 1 (keys of zeros): 1 + 3 · (6 − 1).
    np.testing.assert_array_equal(predict(x, np.float32(0.5)), 16 * x)
    assert len(context.seen) == len(dit.seen) == 1
    assert dit.seen[0]["latents"].shape == (2, 2, 6)
    # As in the reference, the second of the two has the positive's global condition.
    np.testing.assert_array_equal(dit.seen[0]["global_condition"], np.full((2, 4), 5))
    negative = denoiser.guided(_conditioning(5), _conditioning(2), 3.0)
    np.testing.assert_array_equal(negative(x, np.float32(0.5)), (3 + 3 * (6 - 3)) * x)
