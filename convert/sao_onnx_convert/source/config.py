"""Reads and checks `model_config.json`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from sao_onnx.bundle.schema import SchemaError, read
from sao_onnx_convert.errors import UnsupportedModelError
from sao_onnx_convert.source.config_checks import check, check_family
from sao_onnx_convert.source.config_fields import ModelConfig
from sao_onnx_convert.source.file_kinds import JsonObject, read_json
from sao_onnx_convert.source.file_names import CONFIG

__all__ = ["ModelConfig", "load_config", "parse_config"]

Note = Callable[[str], None]

TRAINING = ("training", "lora")


def load_config(path: Path, note: Note = lambda text: None) -> ModelConfig:
    """Read and check `model_config.json`.

    Args:
        path: The file, UTF-8 with or without a byte-order mark.
        note: Gets one line if there are fields that have no effect.

    Raises:
        UnsupportedModelError: The file is not JSON, has a field or value that is not supported, or contradicts itself.
    """
    data = read_json(path, UnsupportedModelError)
    config = parse_config(data, note, path.name)
    for name in _repeated(data):
        raise UnsupportedModelError(f"{path.name}: {name}: occurs twice with different values")
    return config


def parse_config(data: object, note: Note = lambda text: None, title: str = CONFIG) -> ModelConfig:
    """Check a decoded `model_config.json`; see `load_config`. `title` is what messages call it."""
    unread: list[str] = []
    try:
        if isinstance(data, Mapping):
            check_family(data)
        config = read(ModelConfig, data, skipped=unread)
        check(config)
    except SchemaError as error:
        raise UnsupportedModelError(f"{title}: {error}") from error
    if unread:
        shown = ", ".join(unread[:20]) + (f" and {len(unread) - 20} more" if len(unread) > 20 else "")
        note(f"{title}: fields that have no effect and are not read: {shown}")
    return config


def _repeated(data: object) -> Iterator[str]:
    """Fields that occur twice in an object with different values, except in those that only training reads."""
    waiting = [("", data)]
    while waiting:
        where, part = waiting.pop()
        if isinstance(part, JsonObject):
            yield from (where + name for name in part.repeated if where or name not in TRAINING)
            waiting += [(f"{where}{name}.", inner) for name, inner in part.items() if where or name == "model"]
        elif isinstance(part, list):
            waiting += [(f"{where.removesuffix('.')}[{index}].", inner) for index, inner in enumerate(part)]
