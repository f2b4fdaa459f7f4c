"""The T5 encoder and its tokenizer, from a folder or repository of their own."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import AutoConfig, PretrainedConfig, T5EncoderModel

from sao_onnx_convert.checkpoint import require_finite
from sao_onnx_convert.errors import CheckpointError, UnsupportedModelError
from sao_onnx_convert.quiet import quiet

FILES = ("config.json", "model.safetensors", "tokenizer.json")


@dataclass(frozen=True)
class Text:
    """A tokenizer and the encoder behind it.

    Attributes:
        tokenizer: Without truncation or padding.
        pad_id: The token that the reference pads with.
        width: Channels of the embeddings.
    """

    tokenizer: Tokenizer
    pad_id: int
    encoder: T5EncoderModel
    width: int


def t5_width(folder: Path) -> int:
    """Channels of the embeddings, from `config.json` alone."""
    return int(_config(folder).d_model)


def load_text(folder: Path) -> Text:
    """Load the T5 encoder and tokenizer.

    The encoder's weights are rounded to half precision and widened again: the reference keeps them in half precision
    (`T5Conditioner`), so these are the numbers that the model was trained with.

    Args:
        folder: Holds the `FILES`; weights of a T5 decoder among them are not read.

    Raises:
        CheckpointError: A file cannot be read, or tensors are missing, misshapen or not finite.
        UnsupportedModelError: It is not a T5.
    """
    config = _config(folder)
    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # The library raises bare Exception.
        raise CheckpointError(f"{folder}/tokenizer.json cannot be read: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return Text(tokenizer, _pad_id(folder, tokenizer, config), _encoder(folder, config), int(config.d_model))


def _pad_id(folder: Path, tokenizer: Tokenizer, config: PretrainedConfig) -> int:
    """The token that transformers would pad with: the one that the tokenizer's settings name, else the encoder's own."""
    settings, added = _json(folder / "tokenizer_config.json"), _json(folder / "added_tokens.json")
    token = settings.get("pad_token")
    if isinstance(token, dict):
        token = token.get("content")
    pad_id = None if token is None else tokenizer.token_to_id(token)
    if pad_id is None:
        pad_id = added.get(str(token), config.pad_token_id)
    if not isinstance(pad_id, int) or not 0 <= pad_id < config.vocab_size:
        raise CheckpointError(
            f"{folder} names no padding token within the encoder's {config.vocab_size} tokens (found {pad_id!r})"
        )
    return pad_id


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path} cannot be read as JSON: {error}") from error
    return data if isinstance(data, dict) else {}


def _config(folder: Path) -> PretrainedConfig:
    try:
        model_type = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
        if model_type != "t5":
            raise UnsupportedModelError(f"{folder}/config.json: model_type: found {model_type!r}, supported: 't5'")
        config: PretrainedConfig = AutoConfig.from_pretrained(folder)
        return config
    except (OSError, AttributeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{folder}/config.json cannot be read: {error}") from error


def _encoder(folder: Path, config: PretrainedConfig) -> T5EncoderModel:
    try:
        with quiet():
            encoder, report = T5EncoderModel.from_pretrained(
                folder, config=config, use_safetensors=True, output_loading_info=True, ignore_mismatched_sizes=True
            )
    except Exception as error:  # safetensors and transformers share no base class.
        raise CheckpointError(f"{folder}/model.safetensors cannot be read: {error}") from error
    misshapen = sorted(entry if isinstance(entry, str) else entry[0] for entry in report["mismatched_keys"])
    if report["missing_keys"] or misshapen:
        raise CheckpointError(
            f"{folder}/model.safetensors does not match config.json; missing: {sorted(report['missing_keys'])}, "
            f"misshapen: {misshapen}"
        )
    require_finite(encoder.state_dict(), folder / "model.safetensors")
    rounded: T5EncoderModel = encoder.half().float().eval()
    require_finite(rounded.state_dict(), folder / "model.safetensors (rounded to half precision)")
    return rounded


class TextEncoder(nn.Module):
    """T5 encoder and projection: ids and mask [b, n] to embeddings [b, n, width].

    The signature is that of a transformers model, so that optimum exports it like one.
    """

    def __init__(self, encoder: T5EncoderModel, projection: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.projection = projection
        self.config = encoder.config

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return {"embeddings": self.projection(hidden)}
