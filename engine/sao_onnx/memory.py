"""How much memory a clip will take, before any of it is taken."""

from __future__ import annotations

from sao_onnx.bundle import Bundle
from sao_onnx.manifest import Precision, Role

PROCESS = 200_000_000
"""Bytes of the interpreter, NumPy, ONNX Runtime and a stage's activations."""

WEIGHT_FACTOR = 1.1
"""Memory for each byte of weights. With it, 1.70 and 0.59 GB are estimated where 1.63 and 0.58 were measured (see bench/)."""


def estimate_peak(bundle: Bundle, precision: Precision) -> int:
    """Bytes at the peak of a clip whose stages are dropped after use: the heaviest stage, and the process around it."""
    manifest = bundle.manifest
    conditioner: tuple[Role, ...] = ("text_encoder", "number_conditioner")
    denoiser: tuple[Role, ...] = ("context", "dit")
    stages = [
        sum(bundle.weight(manifest.graph(role, precision)) for role in roles)
        for roles in (conditioner, denoiser, manifest.decoder_roles)
    ]
    return PROCESS + round(WEIGHT_FACTOR * max(stages))
