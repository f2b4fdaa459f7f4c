"""How much memory a clip will take, before any of it is taken."""

from __future__ import annotations

from sao_onnx.bundle import Bundle
from sao_onnx.manifest import Precision, Role

PROCESS = 130_000_000
"""Bytes of the interpreter, NumPy, ONNX Runtime and a stage's activations, beside its weights.

With it, 0.49 and 1.49 GB are estimated for the full size in int8 and fp32, where as much was measured (see bench/results).
"""


def estimate_peak(bundle: Bundle, precision: Precision) -> int:
    """Bytes at the peak of a clip whose stages are dropped after use: the heaviest stage, and the process around it."""
    manifest = bundle.manifest
    conditioner: tuple[Role, ...] = ("text_encoder", "number_conditioner")
    denoiser: tuple[Role, ...] = ("context", "dit")
    stages = [
        sum(bundle.weight(manifest.graph(role, precision)) for role in roles)
        for roles in (conditioner, denoiser, manifest.decoder_roles)
    ]
    return PROCESS + max(stages)
