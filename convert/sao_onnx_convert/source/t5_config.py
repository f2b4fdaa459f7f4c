"""A T5 encoder's `config.json`, and whether the encoder is the one that a model was trained with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from sao_onnx.bundle.schema import SchemaError, read
from sao_onnx_convert.errors import CheckpointError, UnsupportedModelError
from sao_onnx_convert.source.config_fields import ModelConfig
from sao_onnx_convert.source.file_kinds import read_json
from sao_onnx_convert.source.t5_names import SIZES, T5Sizes, short_name

LARGEST = {
    "vocab_size": 1 << 20,
    "d_model": 1 << 16,
    "d_kv": 1 << 12,
    "d_ff": 1 << 18,
    "num_layers": 1024,
    "num_heads": 1 << 12,
    "relative_attention_num_buckets": 1 << 12,
}
"""Sizes that must be positive, and the largest value of each that is accepted."""


@dataclass(frozen=True)
class T5Config:
    """The fields of an encoder's `config.json` that decide what it computes. Defaults are those of transformers."""

    SKIPS_UNKNOWN: ClassVar[bool] = True

    vocab_size: int = 32128
    d_model: int = 512
    d_kv: int = 64
    d_ff: int = 2048
    num_layers: int = 6
    num_heads: int = 8
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    layer_norm_epsilon: float = 1e-6
    feed_forward_proj: str = "relu"
    dense_act_fn: str | None = None
    is_gated_act: bool | None = None
    pad_token_id: int | None = 0
    quantization_config: Any = None
    _name_or_path: Any = None

    @property
    def name(self) -> str:
        """The name from which it was loaded before it was saved; empty if the file does not say."""
        return self._name_or_path if isinstance(self._name_or_path, str) else ""

    @property
    def sizes(self) -> T5Sizes:
        """Its sizes, for a comparison with those of published encoders."""
        gated = self.feed_forward_proj.startswith("gated") if self.is_gated_act is None else self.is_gated_act
        return T5Sizes(self.d_model, self.d_ff, self.d_kv, self.num_layers, self.num_heads, gated)


def read_t5_config(path: Path) -> T5Config:
    """Read and check an encoder's `config.json`.

    Raises:
        CheckpointError: The file cannot be read, or has a value of the wrong type or out of range.
        UnsupportedModelError: It is another kind of model, or quantized.
    """
    data = read_json(path, CheckpointError)
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} cannot be read: found {type(data).__name__}, expected an object")
    if data.get("model_type") != "t5":
        raise UnsupportedModelError(f"{path}: model_type: found {data.get('model_type')!r}, supported: 't5'")
    try:
        config = read(T5Config, data, skipped=[])
    except SchemaError as error:
        raise CheckpointError(f"{path}: {error}") from error
    for name, largest in LARGEST.items():
        value = getattr(config, name)
        if not 1 <= value <= largest:
            raise CheckpointError(f"{path}: {name}: found {value}, sizes must be positive and at most {largest}")
    if not 0 < config.layer_norm_epsilon < 1:
        raise CheckpointError(f"{path}: layer_norm_epsilon: found {config.layer_norm_epsilon}, expected one between 0 and 1")
    exact = config.relative_attention_num_buckets // 4  # This many distances on each side have buckets of their own.
    if exact < 1 or config.relative_attention_max_distance <= exact:
        raise CheckpointError(
            f"{path}: relative_attention_max_distance: found {config.relative_attention_max_distance}, and "
            f"{config.relative_attention_num_buckets} buckets; expected 4 or more, and a distance above a quarter of them"
        )
    if config.quantization_config is not None:
        raise UnsupportedModelError(
            f"{path}: the encoder is quantized (quantization_config); take one in single or half precision"
        )
    return config


def check_text_encoder(config: ModelConfig, t5: T5Config, place: str) -> str | None:
    """Compare the T5 at hand with the one that the model was trained with.

    Args:
        config: The model's configuration, which names its T5.
        t5: The configuration of the T5 at hand.
        place: The repository or folder that it comes from.

    Returns:
        A warning, if only the name differs or if nothing can be compared; otherwise None.

    Raises:
        UnsupportedModelError: It is another encoder.
    """
    asked = config.prompt.config.t5_model_name
    wanted = SIZES.get(short_name(asked))
    found = [name for name, sizes in SIZES.items() if sizes == t5.sizes]
    if wanted is None:
        return (
            None
            if short_name(asked) == short_name(place)
            else (
                f"the model was trained with the text encoder {asked!r}, which is not known here; whether {place} is the same "
                "cannot be told, and another one makes noise of every prompt"
            )
        )
    if t5.sizes != wanted and (found or t5.d_model == wanted.d_model or t5.sizes.gated != wanted.gated):
        what = f"of the sizes of {found[0]!r}" if found else f"another T5 ({_differences(t5.sizes, wanted)})"
        raise UnsupportedModelError(
            f"the model was trained with the text encoder {asked!r}, and {place} is {what}; give the right one with --t5"
        )
    for name in (short_name(place), short_name(t5.name)):
        if name in SIZES and name != short_name(asked):
            return f"the model was trained with the text encoder {asked!r}, and {place} is called {name!r}; are they the same?"
    return None


def _differences(found: T5Sizes, wanted: T5Sizes) -> str:
    return ", ".join(
        f"{name} {getattr(found, name)} instead of {getattr(wanted, name)}"
        for name in T5Sizes.__dataclass_fields__
        if getattr(found, name) != getattr(wanted, name)
    )
