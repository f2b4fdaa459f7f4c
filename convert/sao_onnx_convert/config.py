"""Reads `model_config.json`, as the reference would: what the file says, and what of it nobody reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from sao_onnx.schema import SchemaError, read
from sao_onnx_convert.config_checks import check, check_family
from sao_onnx_convert.config_fields import ModelConfig
from sao_onnx_convert.errors import UnsupportedModelError
from sao_onnx_convert.file_kinds import JsonObject, read_json

__all__ = ["ModelConfig", "load_config", "parse_config"]

Note = Callable[[str], None]

TRAINING = ("training", "lora")


def load_config(path: Path, note: Note = lambda text: None) -> ModelConfig:
    """Read and check `model_config.json`.

    Args:
        path: The file, UTF-8 with or without a byte-order mark.
        note: Gets one line if there are fields that nobody reads.

    Raises:
        UnsupportedModelError: The file is not JSON, has a field or value that is not supported, or contradicts itself.
    """
    data = read_json(path, UnsupportedModelError)
    config = parse_config(data, note)
    for where, name in _repeated(data, ""):
        raise UnsupportedModelError(f"model_config.json: {where}{name}: stands there twice with different values")
    return config


def parse_config(data: object, note: Note = lambda text: None) -> ModelConfig:
    """Check a decoded `model_config.json`; see `load_config`."""
    unread: list[str] = []
    try:
        if isinstance(data, Mapping):
            check_family(data)
        config = read(ModelConfig, data, skipped=unread)
        check(config)
    except SchemaError as error:
        raise UnsupportedModelError(f"model_config.json: {error}") from error
    if unread:
        shown = ", ".join(unread[:20]) + (f" and {len(unread) - 20} more" if len(unread) > 20 else "")
        note(f"model_config.json: fields that have no effect and are not read: {shown}")
    return config


def _repeated(data: object, where: str) -> Iterator[tuple[str, str]]:
    """Fields that the file has twice with different values, but for what only training reads."""
    if isinstance(data, JsonObject):
        yield from ((where, name) for name in data.repeated if name not in TRAINING)
        for name, part in data.items():
            if where or name == "model":
                yield from _repeated(part, f"{where}{name}.")
    elif isinstance(data, list):
        for index, part in enumerate(data):
            yield from _repeated(part, f"{where.rstrip('.')}[{index}].")
