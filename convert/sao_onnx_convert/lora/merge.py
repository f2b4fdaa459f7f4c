"""Merges LoRAs into the weights of a model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sao_onnx_convert.errors import CheckpointError
from sao_onnx_convert.lora.arithmetic import merged
from sao_onnx_convert.lora.fit import Shape, fit
from sao_onnx_convert.lora.low_rank import Adapter

Layer = nn.Linear | nn.Conv1d


def require_fit(model: nn.Module, adapters: Sequence[Adapter]) -> None:
    """Refuse LoRAs that change what a model has not.

    Args:
        model: Also one without memory, on the device `meta`.
        adapters: The LoRAs.

    Raises:
        CheckpointError: As `fit` does.
    """
    shapes = _shapes(_layers(model))
    for adapter in adapters:
        fit(adapter, shapes)


@torch.no_grad()
def merge(model: nn.Module, adapters: Sequence[Adapter]) -> None:
    """Replace the weights of a model by those that LoRAs make of them, one after the other.

    Args:
        model: In single precision.
        adapters: The LoRAs, in their order: each changes what those before it have left (`load_and_apply_loras` of
            stable-audio-tools). The order matters only where one of them has magnitudes.

    Raises:
        CheckpointError: A LoRA does not fit the model, or makes numbers of it infinite.
    """
    layers = _layers(model)
    changes = [(adapter, fit(adapter, _shapes(layers))) for adapter in adapters]
    for name, layer in layers.items():
        weight: Tensor = layer.weight
        bias: Tensor | None = layer.bias
        for adapter, places in changes:
            if name not in places:
                continue
            weight, bias = merged(weight, bias, places[name], adapter.strength, layer.weight)
            if not (torch.isfinite(weight).all() and (bias is None or torch.isfinite(bias).all())):
                raise CheckpointError(
                    f"{adapter.title} at strength {adapter.strength:g} makes {name} infinite; expected a strength near 1"
                )
        layer.weight.data = weight.data
        if layer.bias is not None and bias is not None:
            layer.bias.data = bias.data


def _layers(model: nn.Module) -> dict[str, Layer]:
    return {name: module for name, module in model.named_modules() if isinstance(module, Layer)}


def _shapes(layers: dict[str, Layer]) -> dict[str, Shape]:
    return {name: tuple(layer.weight.shape) for name, layer in layers.items()}
