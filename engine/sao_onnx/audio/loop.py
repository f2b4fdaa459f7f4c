"""The seam of a loop."""

from __future__ import annotations

import numpy as np

from sao_onnx.arrays import Array


def joined(samples: Array, frames: int) -> Array:
    """The first `frames` frames, with the tail after them faded into their start, so that the end leads into the start.

    When the loop is repeated, its last frame is followed by the frame that was generated after it. Start and tail are the same
    music, so the weights of the cross-fade add up to 1, and not their squares.

    Args:
        samples: float32 [channels, at least `frames`].
        frames: Of the loop.
    """
    body, tail = samples[:, :frames].copy(), samples[:, frames : 2 * frames]
    length = tail.shape[1]
    rise = ((np.arange(length) + 0.5) / max(length, 1)).astype(np.float32)
    body[:, :length] = rise * body[:, :length] + (1 - rise) * tail
    return body
