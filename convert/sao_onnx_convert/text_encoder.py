"""The T5 encoder and its tokenizer, from a folder or repository of their own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import T5EncoderModel

from sao_onnx_convert.checkpoint import WEIGHTS
from sao_onnx_convert.errors import CheckpointError
from sao_onnx_convert.file_kinds import disguise, read_json, why_not_safetensors
from sao_onnx_convert.quiet import quiet
from sao_onnx_convert.spiece import tokenizer_from_pieces
from sao_onnx_convert.t5_config import T5Config, read_t5_config
from sao_onnx_convert.t5_files import PIECES, T5Files, find_t5
from sao_onnx_convert.weights import require_finite, weight_files


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
    base, files = find_t5(folder)
    return read_t5_config(base / files.config).d_model


def load_text(folder: Path) -> Text:
    """Load the T5 encoder and tokenizer.

    The encoder's weights are rounded to half precision and widened again: the reference keeps them in half precision
    (`T5Conditioner`), so these are the numbers that the model was trained with.

    Args:
        folder: Holds what `t5_files.find_t5` finds; weights of a T5 decoder among them are not read.

    Raises:
        CheckpointError: A file is missing or cannot be read, or tensors are missing, misshapen or not finite.
        UnsupportedModelError: It is not a T5.
    """
    base, files = find_t5(folder)
    config = read_t5_config(base / files.config)
    settings, added = _settings(base, files, "tokenizer_config.json"), _settings(base, files, "added_tokens.json")
    tokenizer = _tokenizer(base / files.tokenizer, settings, added)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    if (last := max(tokenizer.get_vocab().values(), default=0)) >= config.vocab_size:
        raise CheckpointError(
            f"{folder}: the tokenizer has tokens up to {last}, the encoder only {config.vocab_size}; take both from one model"
        )
    return Text(tokenizer, _pad_id(folder, tokenizer, config, settings, added), _encoder(base, files), config.d_model)


def _settings(base: Path, files: T5Files, name: str) -> dict[str, Any]:
    place = next((place for place in files.settings if place.rpartition("/")[2] == name), None)
    data = {} if place is None else read_json(base / place, CheckpointError)
    return data if isinstance(data, dict) else {}


def _tokenizer(path: Path, settings: dict[str, Any], added: dict[str, Any]) -> Tokenizer:
    if path.name == PIECES:
        return tokenizer_from_pieces(path, settings, added)
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # The library raises bare Exception.
        raise CheckpointError(f"{path} cannot be read: {disguise(path) or error}") from error


def _pad_id(folder: Path, tokenizer: Tokenizer, config: T5Config, settings: dict[str, Any], added: dict[str, Any]) -> int:
    """The token that transformers would pad with: the one that the tokenizer's settings name, else the encoder's own."""
    token = settings.get("pad_token")
    if isinstance(token, dict):
        token = token.get("content")
    pad_id = tokenizer.token_to_id(token) if isinstance(token, str) else None
    if pad_id is None:
        pad_id = added.get(str(token), config.pad_token_id)
    if not isinstance(pad_id, int) or not 0 <= pad_id < config.vocab_size:
        raise CheckpointError(
            f"{folder} names no padding token within the encoder's {config.vocab_size} tokens (found {pad_id!r})"
        )
    return pad_id


def _encoder(base: Path, files: T5Files) -> T5EncoderModel:
    folder, path = (base / files.config).parent, base / files.weights[0]
    shards = weight_files(folder / WEIGHTS)  # Says what is wrong with an index more plainly than transformers does.
    try:
        with quiet():
            encoder, report = T5EncoderModel.from_pretrained(
                folder, use_safetensors=True, output_loading_info=True, ignore_mismatched_sizes=True, local_files_only=True
            )
    except Exception as error:  # safetensors and transformers share no base class.
        broken = next((shard for shard in shards if disguise(shard)), path if len(shards) > 1 else shards[0])
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(f"{broken} cannot be read: {why_not_safetensors(broken, reason)}") from error
    misshapen = sorted(entry if isinstance(entry, str) else entry[0] for entry in report["mismatched_keys"])
    if report["missing_keys"] or misshapen:
        raise CheckpointError(
            f"{path} does not match config.json; missing: {sorted(report['missing_keys'])}, misshapen: {misshapen}"
        )
    require_finite(encoder.state_dict(), path)
    rounded: T5EncoderModel = encoder.half().float().eval()
    require_finite(rounded.state_dict(), path.with_name(f"{path.name} (rounded to half precision)"))
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
