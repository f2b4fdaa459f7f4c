"""How much memory a clip takes, estimated before any of it is taken. All sizes are in bytes."""

from __future__ import annotations

import logging

from sao_onnx.bundle.bundle import Bundle
from sao_onnx.bundle.manifest import Precision, StageName
from sao_onnx.errors import NotEnoughMemoryError, SaoOnnxWarning
from sao_onnx.runtime.machine import describe_machine
from sao_onnx.runtime.sessions import int8_matmul_overflows
from sao_onnx.runtime.tuning import Tuning
from sao_onnx.warn import warn

logger = logging.getLogger(__name__)

PROCESS = 130_000_000
"""The interpreter, NumPy, ONNX Runtime and a stage's activations, without the stage's weights.

With it, the estimates for a clip at full size are 0.49 GB in int8 and 1.49 GB in fp32, which is what was measured (see
bench/results).
"""

UNSIGNED = 1.8
"""Memory of an int8 stage in relation to its weights where they are made unsigned when they are loaded.

ONNX Runtime then holds some of them twice. Measured at full size: 0.77 GB at the peak of a clip.
"""

DEQUANTIZED = 5
"""Memory of the int8 encoder in relation to its weights: one byte each as they are stored, and four for single precision."""

ENCODER_ACTIVATIONS = 2.75e-5
"""Bytes of the encoder's activations for each audio frame and each weight. The encoder runs over the whole window at once.

At full size (78 million weights, 524,288 frames) 1.12 GB were measured in both precisions. Activations grow more slowly than
weights in a wider model, so the estimate is too high for a smaller one: 35 MB for sao-tiny, where 15 MB were measured.
"""


def estimate_peak(
    bundle: Bundle,
    precision: Precision,
    *,
    tuning: Tuning | None = None,
    keep_loaded: bool = False,
    encoder: bool = False,
    preview: bool = False,
) -> int:
    """Memory at the peak of a clip.

    Args:
        bundle: The model.
        precision: The precision of all stages, except those that the tuning names.
        tuning: Its precisions of DiT and decoder are used.
        keep_loaded: All stages stay in memory. Otherwise each is dropped after use, and the heaviest one decides.
        encoder: The clip starts from initial audio, which the encoder turns into latents.
        preview: Latents are decoded while the sampler runs, so that decoder and DiT are in memory at the same time.

    Raises:
        BundleError: The bundle does not hold a precision.
    """
    conditioner = _loaded(bundle, "conditioner", precision)
    denoiser = _loaded(bundle, "denoiser", precision if tuning is None else tuning.dit)
    decoder = _loaded(bundle, "decoder", precision if tuning is None else tuning.decoder)
    encoding = _encoder(bundle, precision) if encoder else 0
    if keep_loaded:
        return PROCESS + conditioner + denoiser + decoder + encoding
    return PROCESS + max(conditioner, encoding, denoiser + (decoder if preview else 0), decoder)


def _loaded(bundle: Bundle, stage: StageName, precision: Precision) -> int:
    """Memory of a stage's weights once it is loaded."""
    weights = bundle.stage_weight(stage, precision)
    return round(UNSIGNED * weights) if precision == "int8" and int8_matmul_overflows() else weights


def _encoder(bundle: Bundle, precision: Precision) -> int:
    """Memory of the encoder's weights, and of its activations for a whole window."""
    stored = bundle.stage_weight("encoder", precision)
    weights, loaded = (stored, DEQUANTIZED * stored) if precision == "int8" else (stored / 4, stored)
    return round(loaded + ENCODER_ACTIVATIONS * weights * bundle.manifest.audio.window)


def require_memory(
    bundle: Bundle,
    precision: Precision,
    *,
    tuning: Tuning | None = None,
    keep_loaded: bool = False,
    encoder: bool = False,
    preview: bool = False,
) -> None:
    """Refuse a clip that does not fit into this machine's memory and swap; warn where it needs swap.

    Where the system does not say how much memory there is, every clip is accepted.

    Args:
        bundle: The model.
        precision: As for `estimate_peak`.
        tuning: As for `estimate_peak`.
        keep_loaded: As for `estimate_peak`.
        encoder: As for `estimate_peak`.
        preview: As for `estimate_peak`.

    Raises:
        NotEnoughMemoryError: Memory and swap together are less than `estimate_peak`.
    """

    def estimate(name: Precision, tuning: Tuning | None = None, *, preview: bool = preview) -> int:
        return estimate_peak(bundle, name, tuning=tuning, keep_loaded=keep_loaded, encoder=encoder, preview=preview)

    machine, need = describe_machine(), estimate(precision, tuning)
    reachable = machine.reachable
    logger.debug("a clip in %s takes about %d bytes, %s are available", precision, need, reachable)
    if reachable is None or need <= reachable:
        return
    found = (
        f"a clip of {bundle.manifest.model.name} in {precision} takes about {need / 1e6:.0f} MB, "
        f"and {reachable / 1e6:.0f} MB can be had"
    )
    if need > reachable + machine.swap:
        # Without the tuning, which is not used where a precision is asked for.
        smaller = [name for name in bundle.manifest.precisions if estimate(name) < need]
        remedies = [f"choose --precision {smaller[0]}"] if smaller else []
        if estimate(precision, tuning, preview=False) < need:
            remedies.append("leave the preview out")
        raise NotEnoughMemoryError(f"{found}; {', '.join([*remedies, 'close other programs'])}, or add swap space")
    warn(f"{found} without swapping; expect it to be slow", SaoOnnxWarning)
