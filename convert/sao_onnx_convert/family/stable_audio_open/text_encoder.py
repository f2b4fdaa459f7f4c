"""The T5 encoder and its tokenizer, from a folder or repository of their own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import T5Config as TransformersConfig
from transformers import T5EncoderModel
from transformers.utils import logging as transformers_logging

from sao_onnx_convert.errors import CheckpointError
from sao_onnx_convert.quiet import quiet
from sao_onnx_convert.source.file_kinds import actual_kind, explain_unreadable, read_json
from sao_onnx_convert.source.file_names import PIECES
from sao_onnx_convert.source.spiece import tokenizer_from_pieces
from sao_onnx_convert.source.stored import weight_files
from sao_onnx_convert.source.t5_config import T5Config, read_t5_config
from sao_onnx_convert.source.t5_files import T5Files, choose_t5, t5_folder
from sao_onnx_convert.source.weights import require_finite, require_floats


@dataclass(frozen=True)
class T5:
    """A T5 encoder and its tokenizer.

    Attributes:
        tokenizer: Set to neither truncate nor pad.
        pad_id: Id of the token that the reference pads with.
        encoder: In single precision.
        width: Channels of the embeddings.
    """

    tokenizer: Tokenizer
    pad_id: int
    encoder: T5EncoderModel
    width: int


def t5_width(folder: Path) -> int:
    """Channels of the embeddings, from `config.json` alone."""
    base, files = _choose(folder)
    return read_t5_config(base / files.config).d_model


def transformers_config(config: T5Config) -> TransformersConfig:
    """The configuration that transformers builds an encoder from.

    It holds only what decides the numbers. Other fields of a published `config.json` would change what the encoder returns
    (`return_dict`), where it runs, or how it is trained.
    """
    derived = {"dense_act_fn": config.dense_act_fn, "is_gated_act": config.is_gated_act}
    return TransformersConfig(  # type: ignore[no-untyped-call]
        vocab_size=config.vocab_size,
        d_model=config.d_model,
        d_kv=config.d_kv,
        d_ff=config.d_ff,
        num_layers=config.num_layers,
        num_heads=config.num_heads,
        relative_attention_num_buckets=config.relative_attention_num_buckets,
        relative_attention_max_distance=config.relative_attention_max_distance,
        layer_norm_epsilon=config.layer_norm_epsilon,
        feed_forward_proj=config.feed_forward_proj,
        pad_token_id=config.pad_token_id,
        **{name: value for name, value in derived.items() if value is not None},
    )


def load_t5(folder: Path, files: T5Files | None = None) -> T5:
    """Load the T5 encoder and tokenizer.

    The encoder's weights are rounded to half precision and widened again: the reference keeps them in half precision
    (`T5Conditioner`), so these are the numbers that the model was trained with.

    Args:
        folder: Holds them. Weights of a T5 decoder among them are not read.
        files: Which of its files they are; None to choose them.

    Raises:
        CheckpointError: A file is missing or cannot be read, or tensors are missing, not finite or of another shape.
        UnsupportedModelError: It is not a T5.
    """
    base, files = _choose(folder) if files is None else (folder, files)
    config = read_t5_config(base / files.config)
    settings, added = _settings(base, files, "tokenizer_config.json"), _settings(base, files, "added_tokens.json")
    tokenizer = _tokenizer(base / files.tokenizer, settings, added)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    if (last := max(tokenizer.get_vocab().values(), default=0)) >= config.vocab_size:
        raise CheckpointError(
            f"{folder}: the tokenizer has tokens up to {last}, the encoder only {config.vocab_size}; take both from one model"
        )
    return T5(tokenizer, _pad_id(folder, tokenizer, config, settings, added), _encoder(base, files, config), config.d_model)


def _choose(folder: Path) -> tuple[Path, T5Files]:
    source = t5_folder(folder)
    return source.folder, choose_t5(source)


def _settings(base: Path, files: T5Files, name: str) -> dict[str, Any]:
    place = next((place for place in files.settings if place.rpartition("/")[2] == name), None)
    data = {} if place is None else read_json(base / place, CheckpointError)
    return data if isinstance(data, dict) else {}


def _tokenizer(path: Path, settings: dict[str, Any], added: dict[str, Any]) -> Tokenizer:
    if path.name == PIECES:
        return tokenizer_from_pieces(path, settings, added)
    try:
        # With or without a byte-order mark, like the other files.
        return Tokenizer.from_str(path.read_text(encoding="utf-8-sig"))
    except Exception as error:  # The library raises bare Exception.
        raise CheckpointError(f"{path} cannot be read: {actual_kind(path) or error}") from error


def _pad_id(folder: Path, tokenizer: Tokenizer, config: T5Config, settings: dict[str, Any], added: dict[str, Any]) -> int:
    """The token that transformers would pad with: that of the tokenizer's settings, otherwise that of the encoder."""
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


@contextlib.contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Hide the progress bars of transformers. It shows one for shards, whatever the level of its loggers is."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _encoder(base: Path, files: T5Files, config: T5Config) -> T5EncoderModel:
    folder, path = (base / files.config).parent, base / files.weights.path
    shards = weight_files(path)  # Its errors about an index are clearer than those of transformers.
    require_floats(path)
    try:
        with quiet(), _no_progress_bars():
            encoder, report = T5EncoderModel.from_pretrained(
                folder,
                config=transformers_config(config),
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                local_files_only=True,
            )
    except Exception as error:  # safetensors and transformers share no base class.
        broken = next((shard for shard in shards if actual_kind(shard)), path if len(shards) > 1 else shards[0])
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(f"{broken} cannot be read: {explain_unreadable(broken, reason)}") from error
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

    It has the signature of a transformers model, so that optimum can export it like one.
    """

    def __init__(self, encoder: T5EncoderModel, projection: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.projection = projection
        self.config = encoder.config

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return {"embeddings": self.projection(hidden)}
