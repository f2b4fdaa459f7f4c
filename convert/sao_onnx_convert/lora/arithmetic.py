"""What a LoRA makes of the weight of a layer.

W is the weight as a matrix, Δ the scaled product of the LoRA, s its strength, m its magnitudes, and ‖V‖ the lengths of the rows
or columns of V:

| kind | new weight |
|---|---|
| lora | W + sΔ |
| dora-rows, dora-cols | m (W + sΔ) / ‖W + sΔ‖, of rows or of columns |
| bora | that of rows, and then of columns of the result |
| dora-outputs | m (W + sΔ) / ‖W + Δ‖, of rows, and the bias m b / ‖W + Δ‖ |

So the strength of a DoRA says how far its direction turns; its magnitudes count at every strength but 0, which turns it off. So
it is in stable-audio-tools 0.0.20 (`LoRAParametrization`), at generation as in training. PEFT has no strength; scaling its
layers (`scale_layer`) gives the same but for 0. `dora-outputs` is what LoRAW computes in training (`LoRAModule.forward`), again
but for 0. Its own interface merges otherwise, and not what was trained: strength squared, and no magnitudes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sao_onnx_convert.lora.low_rank import Array, LowRank

EPSILON = 1e-12
"""Added to lengths, so that a row of zeros stays one. stable-audio-tools has it."""


def merged(
    weight: Tensor, bias: Tensor | None, change: LowRank, strength: float, original: Tensor
) -> tuple[Tensor, Tensor | None]:
    """The new weight and bias of a layer.

    Args:
        weight: [outputs, inputs] or [outputs, inputs, kernel], float32.
        bias: [outputs], or None.
        change: A change that fits them.
        strength: Its strength.
        original: The weight before any LoRA, from which a core takes its singular vectors.
    """
    if strength == 0:
        return weight, bias
    matrix, delta = weight.flatten(1), change.scale * _product(change, original.flatten(1))
    new = matrix + strength * delta
    if change.kind == "dora-outputs":
        factor = _flat(change.rows) / (torch.linalg.vector_norm(matrix + delta, dim=1) + EPSILON)
        return (factor[:, None] * new).reshape(weight.shape), None if bias is None else factor * bias
    for magnitude, axis in ((change.rows, 1), (change.columns, 0)):
        if magnitude is not None:
            length = torch.linalg.vector_norm(new, dim=axis, keepdim=True) + EPSILON
            new = new / length * _flat(magnitude).unsqueeze(axis)
    return new.reshape(weight.shape), bias


def _product(change: LowRank, original: Tensor) -> Tensor:
    """The low-rank product, [outputs, inputs]."""
    if change.core is None:
        return _flat(change.up, 1) @ _flat(change.down, 1)
    core = torch.from_numpy(change.core)
    left, _, right = torch.linalg.svd(original, full_matrices=False)
    # A singular vector has no sign of its own: the largest number of each of the left ones is made positive.
    signs = left.gather(0, left.abs().argmax(dim=0, keepdim=True)).sign()
    rank = len(core)
    product: Tensor = (left * signs)[:, :rank] @ core @ (right * signs.T)[:rank]
    return product


def _flat(array: Array | None, start: int = 0) -> Tensor:
    """An array as a tensor, its axes from `start` on as one. That it is there, `fit` has seen."""
    if array is None:
        raise ValueError("a change lacks a part of its kind")
    return torch.from_numpy(array).flatten(start)
