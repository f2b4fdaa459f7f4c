"""LoRAs of PEFT (huggingface/peft): a folder with `adapter_config.json` and `adapter_model.safetensors`."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from sao_onnx.bundle.schema import SchemaError, read, shown
from sao_onnx_convert.errors import CheckpointError
from sao_onnx_convert.lora.low_rank import LONGEST_NAME, Array, LowRank, by_layer, require_parts
from sao_onnx_convert.lora.stored import Stored
from sao_onnx_convert.source.file_kinds import read_json

CONFIG = "adapter_config.json"
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")

PATTERN = re.compile(
    r"(?:base_model\.model\.)?(?P<layer>.+?)\.(?P<part>lora_A|lora_B|lora_magnitude_vector)(?:\.default)?(?:\.weight)?"
)

OTHERS = (
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "layer_replication",
    "lora_bias",
    "modules_to_save",
    "monteclora_config",
    "target_parameters",
    "trainable_token_indices",
    "use_bdlora",
    "use_qalora",
)
"""Settings that change more than the weights of layers, or in another way. They must be off."""

BASES = re.compile(r"pissa|olora|corda|loftq|lora_ga", re.IGNORECASE)
"""Ways to begin a training that change the model's own weights, so that the product belongs to other weights than these."""

NAME = r"[\w.^$|()-]|\\[.d]|\[[\w-]+\]"
SAFE = re.compile(rf"(?:\.\*)?(?:\\d\+|\[0-9\]\+|{NAME})*")
"""Patterns of layers that cannot take for ever to match: nothing is repeated but digits, and these not often."""

MOST_REPEATS = 2


@dataclass(frozen=True)
class Settings:
    """The settings that decide how a LoRA is applied. All have PEFT's defaults.

    `fan_in_fan_out` is not among them: PEFT turns it off for the layers that this model has.

    Attributes:
        peft_type: The method.
        r: Rank. Those of the tensors count, which `rank_pattern` may have changed.
        lora_alpha: The product is scaled by `alpha / rank`.
        alpha_pattern: Other alphas, by names or patterns of layers.
        use_rslora: Scale by `alpha / sqrt(rank)`.
        use_dora: There are magnitudes.
        bias: Whether biases were trained.
        init_lora_weights: How the training began.
    """

    SKIPS_UNKNOWN: ClassVar[bool] = True

    peft_type: Literal["LORA"]
    r: int = 8
    lora_alpha: float = 8
    alpha_pattern: dict[str, float] | None = field(default_factory=dict)
    use_rslora: bool = False
    use_dora: bool = False
    bias: Literal["none"] = "none"
    init_lora_weights: bool | str | None = True


def folder_of(path: Path) -> Path | None:
    """The folder of a PEFT adapter that is meant by a path: its own, or that of one of its files; None if it is none."""
    if path.is_dir():
        return path
    return path.parent if path.name in (CONFIG, *WEIGHTS) and (path.parent / CONFIG).is_file() else None


def weights_of(folder: Path) -> Path:
    """The weights in a folder.

    Raises:
        CheckpointError: A file is missing.
    """
    found = [folder / name for name in WEIGHTS if (folder / name).is_file()]
    if missing := [name for name, there in ((CONFIG, (folder / CONFIG).is_file()), (WEIGHTS[0], bool(found))) if not there]:
        raise CheckpointError(f"{folder} lacks {' and '.join(missing)}; expected a LoRA's file or the folder of one of PEFT")
    return found[0]


def is_mine(names: Collection[str]) -> bool:
    """Whether tensors of these names are of this format."""
    return any(re.search(r"\.lora_[AB](\.default)?\.weight$", name) for name in names)


def layers(folder: Path, stored: Stored) -> dict[str, LowRank]:
    """The changes that a folder holds.

    Args:
        folder: With `adapter_config.json`.
        stored: What its weights' file holds.

    Raises:
        CheckpointError: It holds other tensors as well or lacks some, or has settings that change more than layers.
    """
    config = folder / CONFIG
    data = read_json(config, CheckpointError)
    try:
        settings = read(Settings, data, skipped=[])
    except SchemaError as error:
        raise CheckpointError(f"{config}: {error}") from error
    if used := [name for name in OTHERS if data.get(name)]:
        raise CheckpointError(f"{config}: {used[0]}: found {shown(data[used[0]])}, which cannot be merged; expected none")
    if isinstance(settings.init_lora_weights, str) and BASES.match(settings.init_lora_weights):
        raise CheckpointError(
            f"{config}: init_lora_weights: found {settings.init_lora_weights!r}, which changes the model's weights as well; "
            "save it with save_pretrained(..., path_initial_model_for_weight_conversion=...), which makes a plain LoRA of it"
        )
    alphas = _patterns(config, settings.alpha_pattern or {})
    expected = ("lora_A", "lora_B", "lora_magnitude_vector") if settings.use_dora else ("lora_A", "lora_B")
    found = by_layer(str(folder), stored.tensors, PATTERN)
    changes = {}
    for layer, parts in found.items():
        require_parts(str(folder), layer, parts, expected)
        alpha = next((alpha for pattern, alpha in alphas.items() if pattern.match(layer)), settings.lora_alpha)
        changes[layer] = _change(settings, alpha, parts)
    return changes


def _patterns(config: Path, given: Mapping[str, float]) -> dict[re.Pattern[str], float]:
    """Alphas by what a layer's name must match as a whole, or after a dot (`get_pattern_key` of PEFT)."""
    patterns = {}
    for text, alpha in given.items():
        try:
            if len(text) > LONGEST_NAME or text.count("+") > MOST_REPEATS or not SAFE.fullmatch(text):
                raise re.error("it is too long or repeats too much")
            patterns[re.compile(rf"(.*\.)?({text})$")] = alpha
        except re.error as error:
            raise CheckpointError(
                f"{config}: alpha_pattern: {shown(text)} cannot be used ({error}); expected a layer's name or a simple pattern"
            ) from error
    return patterns


def _change(settings: Settings, alpha: float, parts: dict[str, Array]) -> LowRank:
    rank = max(1, parts["lora_A"].shape[0] if parts["lora_A"].ndim else 0)
    return LowRank(
        "dora-rows" if settings.use_dora else "lora",
        alpha / (math.sqrt(rank) if settings.use_rslora else rank),
        down=parts["lora_A"],
        up=parts["lora_B"],
        rows=parts.get("lora_magnitude_vector"),
    )
