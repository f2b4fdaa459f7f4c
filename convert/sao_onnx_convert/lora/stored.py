"""Reads the tensors of a LoRA's file: safetensors, or a pickle of tensors and plain values alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from sao_onnx.reading import parse_json
from sao_onnx_convert.errors import CheckpointError, CheckpointNotFoundError
from sao_onnx_convert.lora.low_rank import Array, listed
from sao_onnx_convert.source.file_kinds import explain_unreadable
from sao_onnx_convert.source.file_names import PICKLES
from sao_onnx_convert.source.pickles import load_pickled

LARGEST = 2 << 30
"""The largest file, in bytes: more than the whole released model."""

FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)

SETTINGS = "lora_config"
"""Where stable-audio-tools keeps the settings of a LoRA: in the header of a safetensors file, or beside a pickle's tensors."""


@dataclass(frozen=True, eq=False)
class Stored:
    """What a file holds.

    Attributes:
        tensors: In single precision, by name.
        settings: The settings that are stored with them, as decoded JSON; None where there are none.
    """

    tensors: dict[str, Array]
    settings: object


def read_stored(path: Path) -> Stored:
    """Read a file.

    Raises:
        CheckpointNotFoundError: There is no such file.
        CheckpointError: It is too large, damaged or something else, or a tensor is not finite or of another type.
    """
    if not path.is_file():
        raise CheckpointNotFoundError(f"{path} is no file; expected a LoRA: a .safetensors or .ckpt file, or a folder of PEFT")
    if path.stat().st_size > LARGEST:
        raise CheckpointError(f"{path} is no LoRA: it has {path.stat().st_size} bytes, expected at most {LARGEST}")
    if path.suffix == ".safetensors":
        tensors, settings = _safetensors(path)
    elif path.suffix in PICKLES:
        tensors, settings = _pickle(path)
    else:
        raise CheckpointError(f"{path} is no LoRA: expected a .safetensors or .ckpt file, or a folder of PEFT")
    if others := [name for name, tensor in tensors.items() if not _plain(tensor)]:
        raise CheckpointError(f"{path} holds {listed(others)}, expected plain tensors in single or half precision or bfloat16")
    if 4 * sum(tensor.numel() for tensor in tensors.values()) > 2 * LARGEST:
        # Tensors of a pickle can share their numbers.
        raise CheckpointError(f"{path} is no LoRA: its tensors take more than {2 * LARGEST} bytes in single precision")
    arrays = {name: np.asarray(tensor.detach().to(torch.float32)) for name, tensor in tensors.items()}
    if broken := [name for name, array in arrays.items() if not np.isfinite(array).all()]:
        raise CheckpointError(f"{path} holds NaN or infinite values in {listed(broken)}; download or train it again")
    return Stored(arrays, settings)


def _safetensors(path: Path) -> tuple[dict[str, torch.Tensor], object]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as safetensors: {explain_unreadable(path, str(error))}") from error
    try:
        return tensors, parse_json(metadata[SETTINGS]) if SETTINGS in metadata else None
    except ValueError as error:
        raise CheckpointError(f"{path}: its settings ({SETTINGS}) are not JSON: {error}; download it again") from error


def _pickle(path: Path) -> tuple[dict[str, torch.Tensor], object]:
    data = load_pickled(path)
    settings = None
    if isinstance(data, Mapping) and isinstance(data.get("state_dict"), Mapping):
        data, settings = data["state_dict"], data.get(SETTINGS)
    if not isinstance(data, Mapping) or not all(isinstance(name, str) for name in data):
        raise CheckpointError(f"{path} is no LoRA: expected tensors by name")
    return dict(data), settings


def _plain(tensor: object) -> bool:
    """Whether it is an ordinary tensor: numbers that are there, and no more than there are."""
    if not isinstance(tensor, torch.Tensor) or type(tensor) not in (torch.Tensor, torch.nn.Parameter):
        return False
    if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.dtype not in FLOATS:
        return False
    # A pickle can make a tensor of any size from a single number.
    return tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()
