"""Shapes of what graphs take and return, compared with what the manifest promises."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from sao_onnx.bundle.manifest import Tensor

Values = np.ndarray[Any, np.dtype[Any]]


def shape_problem(tensors: Sequence[Tensor], arrays: Sequence[Values]) -> str:
    """How arrays differ from the tensors that they are; "" if they do not.

    Axes of the same name must have the same size in all of them.
    """
    sizes: dict[str, int] = {}
    for tensor, array in zip(tensors, arrays, strict=True):
        right = len(tensor.shape) == array.ndim
        for wanted, found in zip(tensor.shape, array.shape, strict=False):
            right &= found == (sizes.setdefault(wanted, found) if isinstance(wanted, str) else wanted)
        if not right:
            return f"{tensor.name!r} has the shape {list(array.shape)}, the manifest promises {list(tensor.shape)!r:.80}"
    return ""


def frames_problem(given: Values, outputs: Sequence[Values], ratio: Fraction) -> str:
    """Whether outputs have too many or too few frames for an input; "" if they do not.

    Args:
        given: [..., frames].
        outputs: Each [..., frames].
        ratio: Frames of an output for one of the input. Fewer than one frame of the input makes may be missing.
    """
    frames = given.shape[-1]
    for array in outputs:
        if not 0 <= frames * ratio - array.shape[-1] < max(ratio, 1):
            return f"it made {array.shape[-1]} frames of {frames}, expected {frames * ratio}"
    return ""
