"""What a clip starts from: audio, of which as much is read as is needed, or latents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sao_onnx.arrays import Array
from sao_onnx.audio.limits import MAX_RECORDING
from sao_onnx.audio.prepare import Part, prepare
from sao_onnx.bundle.manifest import Manifest
from sao_onnx.errors import RequestError
from sao_onnx.request import Request, initial_file

Reader = Callable[[Any, Part], Array]
"""Reads a part of an audio file, as `sao_onnx.audio.initial.read_part` does."""


def recording(manifest: Manifest, request: Request, latents: int, read: Reader | None) -> Array | None:
    """The initial audio as the model takes it, from `init_start` on: float32 [channels, frames], as much as is needed."""
    init, file = request.init_audio, initial_file(request)
    if init is None:
        return None
    rate = manifest.audio.sample_rate
    longest = round(MAX_RECORDING * rate)
    frames = latents * manifest.latents.ratio if request.extend is None else longest + 1
    part = Part(request.init_start or 0.0, frames, manifest.audio.channels, rate)
    if isinstance(init, tuple) and len(init) == 2:
        audio = prepare(*init, part)
    elif hasattr(init, "samples") and hasattr(init, "sample_rate"):
        audio = prepare(init.samples, init.sample_rate, part)
    elif file is not None and read is not None:
        audio = read(file, part)
    else:
        found = type(init).__name__
        raise RequestError(f"init_audio is {found}, expected (samples, sample_rate), the path of a file or a clip")
    if request.extend is not None and audio.shape[1] > longest:
        raise RequestError(f"the recording is longer than {MAX_RECORDING:g} s; to extend its end, begin later with init_start")
    return audio


def initial_latents(manifest: Manifest, latents: Array) -> Array:
    """Latents to start from as the model takes them: a copy, float32 [channels, n]."""
    try:
        # A copy, which the caller cannot change while the plan is carried out.
        found = np.array(latents)
    except (RuntimeError, TypeError, ValueError) as error:
        raise RequestError(f"latents are no array: {error}") from error
    channels = manifest.latents.channels
    if found.ndim != 2 or found.shape[0] != channels or not found.shape[1] or found.dtype.kind != "f":
        raise RequestError(f"latents have shape {found.shape} and dtype {found.dtype}, expected floats ({channels}, n)")
    with np.errstate(over="ignore"):  # What is too large becomes infinite, which is refused.
        found = np.ascontiguousarray(found, np.float32)
    if not np.isfinite(found).all():
        raise RequestError("latents hold NaN or infinite values, expected finite ones")
    return found
