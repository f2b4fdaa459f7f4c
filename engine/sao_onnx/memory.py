"""How much memory a clip will take, before any of it is taken."""

from __future__ import annotations

from sao_onnx.bundle import Bundle
from sao_onnx.manifest import Precision, Role

STAGES: tuple[tuple[Role, ...], ...] = (("text_encoder", "number_conditioner"), ("dit",), ("decoder_low", "decoder_high"))
"""Graphs that are loaded together."""

PROCESS = 150_000_000
"""Bytes of the interpreter, NumPy, ONNX Runtime and a stage's activations."""

WEIGHT_FACTOR = 1.1
"""Memory for each byte of weights, mapped from disk: measured 1.03 for the largest graph (see bench/), and some room."""


def estimate_peak(bundle: Bundle, precision: Precision) -> int:
    """Bytes at the peak of a clip whose stages are dropped after use: the heaviest stage, and the process around it."""
    stages = [sum(bundle.weight(bundle.manifest.graph(role, precision)) for role in roles) for roles in STAGES]
    return PROCESS + round(WEIGHT_FACTOR * max(stages))
