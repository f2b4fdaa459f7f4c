"""LoRAs of stable-audio-tools 0.0.20: parametrizations of layers, their settings in the header of the file."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import ClassVar, Literal, cast

from sao_onnx.bundle.schema import SchemaError, read
from sao_onnx_convert.errors import CheckpointError
from sao_onnx_convert.lora.low_rank import Array, Kind, LowRank, by_layer, listed, require_parts
from sao_onnx_convert.lora.stored import SETTINGS, Stored

PATTERN = re.compile(
    r"(?P<layer>.+)\.parametrizations\.weight\.0\.(?P<part>lora_A|lora_B|M_xs|magnitude|magnitude_r|magnitude_c)"
)

MAGNITUDES = {
    "lora": (),
    "dora-rows": ("magnitude",),
    "dora-cols": ("magnitude",),
    "bora": ("magnitude_r", "magnitude_c"),
}
"""Tensors of each type besides the product's."""

XS = "-xs"


@dataclass(frozen=True)
class Settings:
    """The settings that decide how a LoRA is applied.

    Attributes:
        adapter_type: Kind; `dora` is that of a first version, in which the magnitude's shape tells which one it is.
        rank: Rank of every layer; None for that of the tensors.
        alpha: The product is scaled by `alpha / rank`; None for the rank.
    """

    SKIPS_UNKNOWN: ClassVar[bool] = True

    adapter_type: Literal[
        "lora", "dora", "dora-rows", "dora-cols", "bora", "lora-xs", "dora-rows-xs", "dora-cols-xs", "bora-xs"
    ] = "lora"
    rank: int | None = None
    alpha: float | None = None


def is_mine(names: Collection[str]) -> bool:
    """Whether tensors of these names are of this format."""
    return any(".parametrizations.weight." in name for name in names)


def layers(title: str, stored: Stored, note: Callable[[str], None]) -> dict[str, LowRank]:
    """The changes that a file holds.

    Args:
        title: The file, for messages.
        stored: What it holds.
        note: Gets a line where something had to be assumed.

    Raises:
        CheckpointError: It holds other tensors as well, or its settings and its tensors contradict each other.
    """
    if stored.settings is None:
        note(f"{title} has no settings ({SETTINGS}); taken as type lora with alpha equal to its rank, as its program does")
    try:
        settings = read(Settings, {} if stored.settings is None else stored.settings, skipped=[])
    except SchemaError as error:
        raise CheckpointError(f"{title}: settings ({SETTINGS}): {error}") from error
    found = by_layer(title, stored.tensors, PATTERN)
    type = _type(settings, found)
    kind = cast(Kind, type.removesuffix(XS))
    product = ("M_xs",) if type.endswith(XS) else ("lora_A", "lora_B")
    for layer, parts in found.items():
        require_parts(title, f"{layer} of type {type}", parts, (*product, *MAGNITUDES[kind]))
    rank = _rank(title, settings, found)
    scale = (rank if settings.alpha is None else settings.alpha) / rank
    return {layer: _change(kind, scale, parts) for layer, parts in found.items()}


def _type(settings: Settings, found: dict[str, dict[str, Array]]) -> str:
    if settings.adapter_type != "dora":
        return settings.adapter_type
    shape = next((parts["magnitude"].shape for parts in found.values() if "magnitude" in parts), ())
    return "dora-cols" if len(shape) == 2 and shape[0] == 1 else "dora-rows"


def _rank(title: str, settings: Settings, found: dict[str, dict[str, Array]]) -> int:
    """The rank of all layers: that of the settings, or of the tensors."""
    ranks = {(parts["M_xs"] if "M_xs" in parts else parts["lora_A"]).shape[:1] for parts in found.values()}
    held = {shape[0] for shape in ranks if shape}
    rank = settings.rank if settings.rank is not None else next(iter(held), 0)
    if rank < 1 or held != {rank}:
        raise CheckpointError(
            f"{title} contradicts itself: found tensors of rank {listed([str(r) for r in held]) or 'none'}, expected {rank} in "
            "every layer; save or download it again"
        )
    return rank


def _change(kind: Kind, scale: float, parts: dict[str, Array]) -> LowRank:
    magnitude = parts.get("magnitude")
    return LowRank(
        kind,
        scale,
        down=parts.get("lora_A"),
        up=parts.get("lora_B"),
        core=parts.get("M_xs"),
        rows=magnitude if kind == "dora-rows" else parts.get("magnitude_r"),
        columns=magnitude if kind == "dora-cols" else parts.get("magnitude_c"),
    )
