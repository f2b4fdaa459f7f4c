"""A graph against the torch module that it was made from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from torch import Tensor

from sao_onnx.sessions import SessionFactory
from sao_onnx_convert.errors import ParityError
from sao_onnx_convert.parts import Part

TOLERANCE = 1e-4
"""Largest difference of a single-precision graph to its module, relative to the output's peak where that exceeds 1."""

SHAPES = ((1, 5), (2, 24))
"""Batch and length of the trials, other than those of the export."""


def measure(part: Part, path: Path) -> float:
    """Largest difference between a graph in ONNX Runtime and its torch module, over random inputs of several shapes.

    Raises:
        ParityError: It exceeds the tolerance, or an output is not finite.
    """
    session = SessionFactory().session(path)
    random = torch.Generator().manual_seed(1)
    error = 0.0
    for batch, length in SHAPES:
        inputs = part.sample(batch, length, random)
        for name, found, expected in zip(part.outputs, _graph(session, part, inputs), _module(part, inputs), strict=True):
            if found.shape != expected.shape:
                raise ParityError(f"{part.role}: {name} has shape {found.shape}, its torch module gives {expected.shape}")
            if not np.isfinite(expected).all() or not np.isfinite(found).all():
                raise ParityError(
                    f"{part.role}: {name} holds NaN or infinite values for ordinary inputs; are the weights damaged?"
                )
            scale = max(1.0, float(np.abs(expected).max()))
            error = max(error, float(np.abs(found - expected).max()) / scale)
    if error > TOLERANCE:
        raise ParityError(f"{part.role}: the graph differs from its torch module by {error:.2e}, allowed are {TOLERANCE:.0e}")
    return error


def _graph(session: ort.InferenceSession, part: Part, inputs: dict[str, Tensor]) -> list[np.ndarray]:
    return list(session.run(list(part.outputs), {name: tensor.numpy() for name, tensor in inputs.items()}))


def _module(part: Part, inputs: dict[str, Tensor]) -> list[np.ndarray]:
    with torch.no_grad():
        result = part.module(*inputs.values())
    if isinstance(result, dict):
        result = tuple(result.values())
    return [tensor.numpy() for tensor in (result if isinstance(result, tuple) else (result,))]
