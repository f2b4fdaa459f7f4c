"""Checks a graph in ONNX Runtime against the torch module that it was made from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sao_onnx.runtime.sessions import WEIGHT_ONLY_ROLES, SessionFactory
from sao_onnx_convert.errors import ParityError
from sao_onnx_convert.export.builder import Array
from sao_onnx_convert.export.part import Part

TOLERANCE = 1e-4
"""The largest difference of a single-precision graph from its module, divided by the output's peak where that is above 1."""

SHAPES = ((1, 5), (2, 24))
"""Batch size and length of the trials. They differ from those of the export, so that dynamic axes are checked."""

MAX_SNR = 200.0
"""Signal-to-noise ratio in decibels where there is no difference, and the largest one that is reported."""


@dataclass(frozen=True)
class Closeness:
    """How close a graph is to its torch module.

    Attributes:
        max_error: The largest difference, divided by the output's peak where that is above 1.
        snr: Signal-to-noise ratio in decibels of the worst output of all trials.
    """

    max_error: float
    snr: float


def random_trials(part: Part) -> list[dict[str, Tensor]]:
    """Random inputs of several shapes, by name."""
    random = torch.Generator().manual_seed(1)
    return [part.sample(batch, length, random) for batch, length in SHAPES]


def measure(part: Part, path: Path, trials: Sequence[dict[str, Tensor]]) -> Closeness:
    """Run a graph in ONNX Runtime and its torch module on the same inputs.

    Args:
        part: The module.
        path: The graph.
        trials: Inputs by name.

    Raises:
        ParityError: An output has another shape, or is not finite.
    """
    session = SessionFactory().session(path, weight_only=part.role in WEIGHT_ONLY_ROLES)
    error, snr = 0.0, MAX_SNR
    for inputs in trials:
        outputs = session.run(list(part.outputs), {name: tensor.numpy() for name, tensor in inputs.items()})
        for name, found, expected in zip(part.outputs, outputs, _module(part, inputs), strict=True):
            if found.shape != expected.shape:
                raise ParityError(f"{part.role}: {name} has the shape {found.shape}, expected {expected.shape} as in PyTorch")
            if not np.isfinite(expected).all() or not np.isfinite(found).all():
                raise ParityError(
                    f"{part.role}: {name} holds NaN or infinite values for ordinary inputs; the weights may be damaged"
                )
            closeness = compare(found, expected)
            error, snr = max(error, closeness.max_error), min(snr, closeness.snr)
    return Closeness(error, snr)


def compare(found: Array, expected: Array) -> Closeness:
    """How close one array is to another."""
    noise = found.astype(np.float64) - expected
    error = float(np.abs(noise).max()) / max(1.0, float(np.abs(expected).max()))
    return Closeness(error, _decibels(float((expected.astype(np.float64) ** 2).sum()), float((noise**2).sum())))


def measure_chain(paths: Sequence[Path], source: Tensor, expected: Tensor) -> Closeness:
    """Run graphs of one input and one output one after the other, and compare the last output with what is expected."""
    x = source.numpy()
    for path in paths:
        session = SessionFactory().session(path)
        (x,) = session.run(None, {session.get_inputs()[0].name: x})
    return compare(x, expected.numpy())


def require_close(part: Part, closeness: Closeness) -> None:
    """Refuse a single-precision graph that differs from its module.

    Raises:
        ParityError: It exceeds the tolerance.
    """
    if closeness.max_error > TOLERANCE:
        raise ParityError(
            f"{part.role}: the graph differs from its torch module by {closeness.max_error:.2e}, allowed is {TOLERANCE:.0e}"
        )


def _decibels(signal: float, noise: float) -> float:
    if noise == 0:
        return MAX_SNR
    return min(MAX_SNR, 10 * math.log10(signal / noise)) if signal > 0 else 0.0


def _module(part: Part, inputs: dict[str, Tensor]) -> list[Array]:
    with torch.no_grad():
        result = part.module(*inputs.values())
    if isinstance(result, dict):
        result = tuple(result.values())
    return [tensor.numpy() for tensor in (result if isinstance(result, tuple) else (result,))]
