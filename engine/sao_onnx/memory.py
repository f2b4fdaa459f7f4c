"""How much memory a clip will take, before any of it is taken."""

from __future__ import annotations

from sao_onnx.bundle import Bundle
from sao_onnx.manifest import Precision, Role

PROCESS = 150_000_000
"""Bytes of the interpreter, NumPy, ONNX Runtime and a stage's activations."""

WEIGHT_FACTOR = 1.1
"""Memory for each byte of weights, mapped from disk: measured 1.03 for the largest graph (see bench/), and some room."""


def estimate_peak(bundle: Bundle, precision: Precision) -> int:
    """Bytes at the peak of a clip whose stages are dropped after use: the heaviest stage, and the process around it."""
    manifest = bundle.manifest
    together: tuple[tuple[Role, ...], ...] = (("text_encoder", "number_conditioner"), ("dit",), manifest.decoder_roles)
    stages = [sum(bundle.weight(manifest.graph(role, precision)) for role in roles) for roles in together]
    return PROCESS + round(WEIGHT_FACTOR * max(stages))
