"""What the numbers and lists of a manifest may be: whatever a model can need, and nothing that a computer cannot hold.

A manifest may come from anybody. Most limits are those that the converter has for the configuration of a checkpoint.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from sao_onnx.bundle.manifest import DECODER_ROLES, Conditioners, File, Lora, Manifest, SegmentTiling
from sao_onnx.bundle.schema import SchemaError

SIZE = 1 << 16
"""The largest size in a network."""

WINDOW = 1 << 18
"""The longest window, in latents."""

SAMPLES = 1 << 28
"""The longest window, in samples of all channels: 50 minutes in stereo, and 1 GB."""

VALUES = 1 << 26
"""The most values in the latents of a window, or in the tokens of a prompt: 256 MB. The released model has 50,000."""

STEPS = 1000
"""The most steps that a model may recommend."""

GUIDANCE = 100.0
"""The largest scale of guidance that a model may recommend."""

TILE = 256
"""The most latents in a tile."""

CONTEXT = 256
"""The most latents on each side of a tile that influence it."""

FILE = 1 << 40
"""The largest file, in bytes."""

ENTRIES = 256
"""The most entries in a list."""


def check_limits(manifest: Manifest) -> None:
    """Refuse numbers and lists that no model needs, or that contradict each other.

    Raises:
        SchemaError: Says which field it is, what was found and what was expected.
    """
    _check_counts(manifest)
    _check_audio(manifest)
    _check_conditioning(manifest.conditioning)
    _require("sampling.steps", manifest.sampling.steps, 1, STEPS)
    _require("sampling.cfg_scale", manifest.sampling.cfg_scale, 0, GUIDANCE)
    _check_decoder(manifest.decoder, manifest.latents.ratio)
    for index, file in enumerate(manifest.files):
        _require(f"files[{index}].size", file.size, 0, FILE)
        _check_digest(f"files[{index}]", file)
    for index, lora in enumerate(manifest.loras):
        _check_digest(f"loras[{index}]", lora)


def _require(field: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        # A whole number can have thousands of digits.
        found = f"{value}" if abs(value) < 1e15 else "a number of many digits"
        raise SchemaError(field, f"found {found}, expected {least} to {most}")


def _check_counts(manifest: Manifest) -> None:
    conditioning = manifest.conditioning
    _require("files", len(manifest.files), 1, ENTRIES)
    _require("tools", len(manifest.tools), 0, ENTRIES)
    _require("loras", len(manifest.loras), 0, ENTRIES)
    for name in ("numbers", "cross_attention", "global_condition"):
        _require(f"conditioning.{name}: number of entries", len(getattr(conditioning, name)), 1, ENTRIES)
    made = [(graph.role, graph.precision) for graph in manifest.graphs]
    if len(set(made)) != len(made):
        raise SchemaError("graphs", "a role occurs twice in the same precision")


def _check_audio(manifest: Manifest) -> None:
    audio, latents = manifest.audio, manifest.latents
    _require("audio.sample_rate", audio.sample_rate, 1000, 10_000_000)
    _require("audio.channels", audio.channels, 1, 64)
    _require("audio.window", audio.window, 1, SAMPLES // audio.channels)
    _require("latents.channels", latents.channels, 1, SIZE)
    _require("latents.ratio", latents.ratio, 1, audio.window)
    if latents.margin is not None:
        _require("latents.margin", latents.margin, 0, manifest.window_latents)
    _require("audio.window, in latents", manifest.window_latents, 1, min(WINDOW, VALUES // latents.channels))


def _check_conditioning(conditioning: Conditioners) -> None:
    prompt = conditioning.prompt
    _require("conditioning.width", conditioning.width, 1, SIZE)
    _require("conditioning.prompt.max_length", prompt.max_length, 1, min(SIZE, VALUES // conditioning.width))
    _require("conditioning.prompt.pad_id", prompt.pad_id, 0, 2**31 - 1)
    numbers = [number.id for number in conditioning.numbers]
    known = {prompt.id, *numbers}
    if len(known) <= len(numbers):
        raise SchemaError("conditioning", "an id occurs twice")
    for number in conditioning.numbers:
        if number.minimum > number.maximum:
            raise SchemaError("conditioning.numbers", f"{number.id!r}: minimum is more than maximum")
    for id in (*conditioning.cross_attention, *conditioning.global_condition):
        if id not in known:
            raise SchemaError("conditioning", f"{id!r} is not a conditioner of this model ({', '.join(sorted(known))})")
    if prompt.id in conditioning.global_condition:
        raise SchemaError("conditioning.global_condition", f"{prompt.id!r} is text, expected numbers")


def _check_decoder(segments: Sequence[SegmentTiling], ratio: int) -> None:
    if not 2 <= len(segments) <= len(DECODER_ROLES):
        raise SchemaError("decoder", f"found {len(segments)} segments, expected 2 or {len(DECODER_ROLES)}")
    if segments[0] != SegmentTiling(rate=1, context=0, tile=0):
        raise SchemaError("decoder[0]", "the first segment must have rate 1, context 0 and tile 0")
    rates = [*(segment.rate for segment in segments), ratio]
    for i, segment in enumerate(segments[1:], start=1):
        if segment.rate < 1 or rates[i + 1] % segment.rate:
            raise SchemaError(f"decoder[{i}].rate", "it must be at least 1 and divide the next one")
        _require(f"decoder[{i}].context", segment.context, 0, CONTEXT * segment.rate)
        _require(f"decoder[{i}].tile", segment.tile, 1, TILE)


def _check_digest(field: str, entry: File | Lora) -> None:
    if not re.fullmatch("[0-9a-f]{64}", entry.sha256):
        raise SchemaError(f"{field}.sha256", "expected 64 hexadecimal digits")
