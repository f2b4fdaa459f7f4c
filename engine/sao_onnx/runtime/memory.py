"""How much memory a clip will take, before any of it is taken."""

from __future__ import annotations

import warnings

from sao_onnx.bundle.bundle import Bundle
from sao_onnx.bundle.manifest import Precision, Role
from sao_onnx.errors import NotEnoughMemoryError, SaoOnnxWarning
from sao_onnx.runtime.machine import describe_machine
from sao_onnx.runtime.sessions import products_overflow

PROCESS = 130_000_000
"""Bytes of the interpreter, NumPy, ONNX Runtime and a stage's activations, beside its weights.

With it, 0.49 and 1.49 GB are estimated for the full size in int8 and fp32, where as much was measured (see bench/results).
"""

UNSIGNED = 1.8
"""What a stage takes where its 8-bit weights are made unsigned when it is loaded, in parts of its weights: ONNX Runtime holds
some of them twice. Measured at the full size: 0.77 GB at the peak of a clip."""


def estimate_peak(bundle: Bundle, precision: Precision, *, keep_loaded: bool = False) -> int:
    """Bytes at the peak of a clip: the process and its heaviest stage, or with `keep_loaded` all that a clip needs."""
    manifest = bundle.manifest
    conditioner: tuple[Role, ...] = ("text_encoder", "number_conditioner")
    denoiser: tuple[Role, ...] = ("context", "dit")
    stages = [
        sum(bundle.weight(manifest.graph(role, precision)) for role in roles)
        for roles in (conditioner, denoiser, manifest.decoder_roles)
    ]
    held = (sum if keep_loaded else max)(stages)
    return PROCESS + (round(UNSIGNED * held) if precision == "int8" and products_overflow() else held)


def require_memory(bundle: Bundle, precision: Precision, *, keep_loaded: bool = False) -> None:
    """Refuse a clip that this machine cannot hold, before any of it is taken; warn of one that it can hold only in part.

    Raises:
        NotEnoughMemoryError: Memory and swap together are less than `estimate_peak`.
    """
    machine, need = describe_machine(), estimate_peak(bundle, precision, keep_loaded=keep_loaded)
    reachable = machine.reachable
    if reachable is None or need <= reachable:
        return
    found = (
        f"a clip of {bundle.manifest.model.name} in {precision} takes about {need / 1e6:.0f} MB, "
        f"and {reachable / 1e6:.0f} MB can be had"
    )
    if need > reachable + machine.swap:
        smaller = [
            name for name in bundle.manifest.precisions if estimate_peak(bundle, name) < estimate_peak(bundle, precision)
        ]
        other = f"choose --precision {smaller[0]}, " if smaller else ""
        raise NotEnoughMemoryError(f"{found}; {other}close other programs, or add swap space")
    warnings.warn(f"{found} without swapping; expect it to be slow", SaoOnnxWarning, stacklevel=3)
