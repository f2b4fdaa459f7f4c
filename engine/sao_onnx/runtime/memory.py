"""How much memory a clip takes, estimated before any of it is taken. All sizes are in bytes."""

from __future__ import annotations

import logging
from typing import TypedDict, Unpack, cast

from sao_onnx.bundle.bundle import Bundle
from sao_onnx.bundle.encoder_tiles import encoder_tile
from sao_onnx.bundle.manifest import Precision, StageName, Tensor
from sao_onnx.errors import NotEnoughMemoryError, SaoOnnxWarning
from sao_onnx.runtime.machine import describe_machine
from sao_onnx.runtime.sessions import int8_matmul_overflows
from sao_onnx.runtime.tuning import Tuning
from sao_onnx.warn import warn

logger = logging.getLogger(__name__)

PROCESS = 95_000_000
"""The interpreter, NumPy, ONNX Runtime and the command, without any stage."""

UNSIGNED = 1.8
"""Memory of an int8 stage in relation to its weights where they are made unsigned when they are loaded.

ONNX Runtime then holds some of them twice. Measured at full size: 0.77 GB at the peak of a clip.
"""

DENOISER_ACTIVATIONS = 180
"""Bytes of the DiT's activations for each channel and latent, in both precisions."""

DECODER_ACTIVATIONS = (16, 8)
"""Bytes of the decoder's activations for each number in the features before its second and its third graph, counted over a
whole window. With workers for two processors, and previews of two seconds, it is hardly less."""

FURTHER_JOB = 0.7
"""Activations of each further clip at the same time in relation to those of the first. Measured with two and four at a time."""

ENCODER_ACTIVATIONS = 3.4e-5
"""Bytes of the encoder's activations for each weight, and each audio frame that it is given at once. In int8, the weights that
are made single precision when they are used are among them."""


PLENTY = 1.25
"""Memory that there must be to open a stage ahead, in relation to what is expected: threads that open graphs take some, and
what is free now may not be free in a second."""


class Way(TypedDict, total=False):
    """What decides on the memory of a clip, apart from the model and its precision.

    Attributes:
        keep_loaded: All stages stay in memory. Otherwise each is dropped after use, and the heaviest one decides.
        encoder: The clip starts from initial audio, which the encoder turns into latents.
        preview: Latents are decoded while the sampler runs, so that decoder and DiT are in memory at the same time.
        jobs: Clips at the same time, by default 1. With several, all stages may be in memory at the same time, too.
        ahead: The denoiser is opened while the conditioner is still there.
    """

    keep_loaded: bool
    encoder: bool
    preview: bool
    jobs: int
    ahead: bool


def estimate_peak(bundle: Bundle, precision: Precision, *, tuning: Tuning | None = None, **way: Unpack[Way]) -> int:
    """Memory at the peak of a clip.

    Args:
        bundle: The model.
        precision: The precision of all stages, except those that the tuning names.
        tuning: Its precisions of DiT and decoder are used.
        **way: How it is run.

    Raises:
        BundleError: The bundle does not hold a precision.
    """
    jobs = way.get("jobs", 1)
    further = 1 + FURTHER_JOB * (jobs - 1)
    conditioner = _loaded(bundle, "conditioner", precision)
    denoiser = _loaded(bundle, "denoiser", precision if tuning is None else tuning.dit) + further * _denoiser(bundle)
    decoder = _loaded(bundle, "decoder", precision if tuning is None else tuning.decoder) + further * _decoder(bundle)
    encoder = _encoder(bundle, precision, further) if way.get("encoder") else 0
    if way.get("keep_loaded") or jobs > 1:
        return round(PROCESS + conditioner + denoiser + decoder + encoder)
    beside = max(conditioner if way.get("ahead") else 0, decoder if way.get("preview") else 0)
    return round(PROCESS + max(conditioner, encoder, denoiser + beside, decoder))


def fits(bundle: Bundle, precision: Precision, *, tuning: Tuning | None = None, **way: Unpack[Way]) -> bool:
    """Whether a clip fits into this machine's memory without swapping. Arguments are those of `estimate_peak`.

    Where the system does not say how much memory there is, every clip fits.
    """
    reachable = describe_machine().reachable
    return reachable is None or estimate_peak(bundle, precision, tuning=tuning, **way) <= reachable


def fits_ahead(bundle: Bundle, precision: Precision, tuning: Tuning) -> bool:
    """Whether there is plenty of memory to open the denoiser while the conditioner is still there.

    Where the system does not say how much there is, there is not. Arguments are those of `estimate_peak`.
    """
    reachable = describe_machine().reachable
    return reachable is not None and PLENTY * estimate_peak(bundle, precision, tuning=tuning, ahead=True) <= reachable


def _loaded(bundle: Bundle, stage: StageName, precision: Precision) -> float:
    """Memory of a stage's weights once it is loaded."""
    weights = bundle.stage_weight(stage, precision)
    return UNSIGNED * weights if precision == "int8" and int8_matmul_overflows() else weights


def _encoder(bundle: Bundle, precision: Precision, further: float) -> float:
    """Weights and activations of the encoder, of which every clip has its own, too."""
    latents = bundle.manifest.latents
    length, _ = encoder_tile(latents, bundle.manifest.window_latents)
    stored = bundle.stage_weight("encoder", precision)
    weights = stored if precision == "int8" else stored / 4
    return stored + further * ENCODER_ACTIVATIONS * weights * length * latents.ratio


def _denoiser(bundle: Bundle) -> int:
    """Activations of the DiT for one clip. Its width is that of the keys of its cross-attention."""
    manifest = bundle.manifest
    return (
        DENOISER_ACTIVATIONS * _size(manifest.graph("context", manifest.precisions[0]).outputs[0], -1) * manifest.window_latents
    )


def _decoder(bundle: Bundle) -> int:
    """Activations of the decoder for one clip."""
    manifest = bundle.manifest
    features = (
        segment.rate * _size(manifest.graph(role, manifest.precisions[0]).inputs[0], 1)
        for role, segment in zip(manifest.decoder_roles[1:], manifest.decoder[1:], strict=True)
    )
    return manifest.window_latents * sum(each * count for each, count in zip(DECODER_ACTIVATIONS, features, strict=False))


def _size(tensor: Tensor, axis: int) -> int:
    """Size of an axis; 0 where it is not fixed."""
    size = tensor.shape[axis] if tensor.shape else 0
    return size if isinstance(size, int) else 0


def require_memory(bundle: Bundle, precision: Precision, *, tuning: Tuning | None = None, **way: Unpack[Way]) -> None:
    """Refuse a clip that does not fit into this machine's memory and swap; warn where it needs swap.

    Where the system does not say how much memory there is, every clip is accepted. Arguments are those of `estimate_peak`.

    Raises:
        NotEnoughMemoryError: Memory and swap together are less than `estimate_peak`.
    """
    machine, need = describe_machine(), estimate_peak(bundle, precision, tuning=tuning, **way)
    reachable = machine.reachable
    logger.debug("a clip in %s takes about %d bytes, %s are available", precision, need, reachable)
    if reachable is None or need <= reachable:
        return
    jobs = way.get("jobs", 1)
    what = f"{jobs} clips at a time take" if jobs > 1 else "a clip takes"
    found = (
        f"{what} about {need / 1e6:.0f} MB with {bundle.manifest.model.name} in {precision}, "
        f"and {reachable / 1e6:.0f} MB can be had"
    )
    if need > reachable + machine.swap:
        # Without the tuning, which is not used where a precision is asked for.
        smaller = [name for name in bundle.manifest.precisions if estimate_peak(bundle, name, **way) < need]
        remedies = [f"choose --precision {smaller[0]}"] if smaller else []
        one, blind = cast(Way, {**way, "jobs": 1}), cast(Way, {**way, "preview": False})
        others = (("make one clip at a time", one), ("leave the preview out", blind))
        remedies += [name for name, other in others if estimate_peak(bundle, precision, tuning=tuning, **other) < need]
        raise NotEnoughMemoryError(f"{found}; {', '.join([*remedies, 'close other programs'])}, or add swap space")
    warn(f"{found} without swapping; expect it to be slow", SaoOnnxWarning)
