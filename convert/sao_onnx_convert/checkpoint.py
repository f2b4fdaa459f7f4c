"""Reads the weights: safetensors only."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from sao_onnx_convert.errors import CheckpointError

CONFIG = "model_config.json"
WEIGHTS = "model.safetensors"


def load_weights(module: nn.Module, path: Path) -> None:
    """Fill a module from a safetensors file, every tensor accounted for, half precision widened to single.

    Raises:
        CheckpointError: The file is damaged; a tensor is missing, unknown, misshapen or not finite (they are listed).
    """
    expected = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    try:
        with safe_open(path, framework="pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            _compare(expected, shapes, path)
            tensors = {name: file.get_tensor(name).to(torch.float32) for name in shapes}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read as safetensors ({error}); download it again") from error
    require_finite(tensors, path)
    module.load_state_dict(tensors, strict=True, assign=True)


def require_finite(tensors: dict[str, Tensor], path: Path) -> None:
    """Refuse NaN and infinite weights.

    Raises:
        CheckpointError: Lists the tensors.
    """
    broken = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise CheckpointError(f"{path} holds NaN or infinite values in {_listed(broken)}; download it again")


def _compare(expected: dict[str, tuple[int, ...]], found: dict[str, tuple[int, ...]], path: Path) -> None:
    problems = []
    if missing := sorted(expected.keys() - found.keys()):
        problems.append(f"missing: {_listed(missing)}")
    if extra := sorted(found.keys() - expected.keys()):
        problems.append(f"not in the configured model: {_listed(extra)}")
    shapes = [
        f"{name} {list(found[name])}, expected {list(expected[name])}"
        for name in sorted(expected.keys() & found.keys())
        if found[name] != expected[name]
    ]
    if shapes:
        problems.append(f"misshapen: {_listed(shapes)}")
    if problems:
        raise CheckpointError(f"{path} does not match {CONFIG}; " + "; ".join(problems))


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:20])
    return shown if len(names) <= 20 else f"{shown} and {len(names) - 20} more"
