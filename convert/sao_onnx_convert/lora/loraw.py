"""LoRAs of LoRAW (github.com/NeuralNotW0rk/LoRAW): layers by their paths with slashes, settings in the configuration."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from sao_onnx.bundle.schema import SchemaError, read
from sao_onnx_convert.errors import CheckpointError
from sao_onnx_convert.lora.low_rank import Array, LowRank, by_layer, require_parts
from sao_onnx_convert.lora.stored import Stored
from sao_onnx_convert.source.file_kinds import read_json
from sao_onnx_convert.source.file_names import CONFIG

PATTERN = re.compile(r"(?P<layer>.+)/(?P<part>lora_down\.weight|lora_up\.weight|dora_mag\.(?:weight|bias))")

PRODUCT = ("lora_down.weight", "lora_up.weight")


@dataclass(frozen=True)
class Settings:
    """The section `lora` of a configuration.

    Attributes:
        rank: The rank that was asked for; a layer that is smaller has a smaller one.
        alpha: The product is scaled by `alpha / rank`; 0 or None for the rank.
        multiplier: A further scale of the product.
    """

    SKIPS_UNKNOWN: ClassVar[bool] = True

    rank: int
    alpha: float | None
    multiplier: float = 1.0


def is_mine(names: Collection[str]) -> bool:
    """Whether tensors of these names are of this format."""
    return any("/lora_down." in name or "/lora_up." in name for name in names)


def layers(path: Path, stored: Stored, note: Callable[[str], None]) -> dict[str, LowRank]:
    """The changes that a file holds.

    Args:
        path: The file. The configuration it was trained with is looked for beside it: under its own name with `.json`, or as
            `model_config.json`.
        stored: What it holds.
        note: Gets a line where something had to be assumed.

    Raises:
        CheckpointError: It holds other tensors as well or lacks some, or the configuration cannot be used.
    """
    settings = _settings(path)
    if settings is None:
        note(
            f"{path} does not say its alpha; taken as equal to its rank, as LoRAW's own interface does. If it is not, put the "
            f"configuration of its training, with the section lora, beside it as {path.with_suffix('.json').name}"
        )
        settings = Settings(1, None)
    scale = (settings.alpha or settings.rank) / settings.rank * settings.multiplier
    found = by_layer(str(path), stored.tensors, PATTERN)
    return {layer.replace("/", "."): _change(str(path), layer, scale, parts) for layer, parts in found.items()}


def _change(title: str, layer: str, scale: float, parts: dict[str, Array]) -> LowRank:
    parts.pop("dora_mag.bias", None)  # There because a magnitude is kept as a Linear. Nothing reads it.
    magnitude = parts.get("dora_mag.weight")
    require_parts(title, layer, parts, PRODUCT if magnitude is None else (*PRODUCT, "dora_mag.weight"))
    down, up = (parts[name] for name in PRODUCT)
    return LowRank("lora" if magnitude is None else "dora-outputs", scale, down=down, up=up, rows=magnitude)


def _settings(path: Path) -> Settings | None:
    for config in (path.with_suffix(".json"), path.with_name(CONFIG)):
        if not config.is_file():
            continue
        data = read_json(config, CheckpointError)
        if not isinstance(data, dict) or "lora" not in data:
            continue
        try:
            settings = read(Settings, data["lora"], "lora", skipped=[])
        except SchemaError as error:
            raise CheckpointError(f"{config}: {error}") from error
        if settings.rank < 1:
            raise CheckpointError(f"{config}: lora.rank: found {settings.rank}, expected at least 1")
        return settings
    return None
