"""What the decoder's layers compute during calibration, and the scales that 8 bits need for it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from sao_onnx_convert.export.builder import Array
from sao_onnx_convert.family.stable_audio_open.networks.autoencoder import ResidualUnit, Snake
from sao_onnx_convert.quantize.constants import MIN_SCALE, UINT8_MAX


@dataclass(frozen=True)
class ChannelRange:
    """The least and the largest value of each channel, float64 [channels]."""

    low: Array
    high: Array

    def __or__(self, other: ChannelRange) -> ChannelRange:
        """The range that holds both."""
        return ChannelRange(np.minimum(self.low, other.low), np.maximum(self.high, other.high))


@dataclass(frozen=True)
class ActivationRange:
    """What a layer computed during calibration.

    Attributes:
        input: Range of its input.
        output: Range of its output.
        total: Sum of its input over all frames, float64 [channels].
        frames: How many frames that were.
    """

    input: ChannelRange
    output: ChannelRange
    total: Array
    frames: int

    def __or__(self, other: ActivationRange) -> ActivationRange:
        """Both together."""
        frames = self.frames + other.frames
        return ActivationRange(self.input | other.input, self.output | other.output, self.total + other.total, frames)

    @property
    def mean(self) -> Array:
        """Mean of each input channel, [channels]."""
        return self.total / self.frames


class Observer:
    """Records the activations of every Snake, convolution and residual unit while a module runs.

    Args:
        module: Plain layers, as `without_parametrization` makes them.
    """

    def __init__(self, module: nn.Module) -> None:
        self._activations: dict[nn.Module, ActivationRange] = {}
        self._hooks = [
            child.register_forward_hook(self._record)
            for child in module.modules()
            if isinstance(child, (Snake, nn.Conv1d, nn.ConvTranspose1d, ResidualUnit))
        ]

    def _record(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        (x,) = inputs
        total = x.double().sum(dim=(0, 2)).numpy()
        found = ActivationRange(_range(x), _range(output), total, x.shape[0] * x.shape[2])
        self._activations[module] = self._activations[module] | found if module in self._activations else found

    def finish(self) -> dict[nn.Module, ActivationRange]:
        """What was recorded, by layer. Nothing more is recorded."""
        for hook in self._hooks:
            hook.remove()
        return self._activations


def _range(x: Tensor) -> ChannelRange:
    return ChannelRange(x.amin(dim=(0, 2)).double().numpy(), x.amax(dim=(0, 2)).double().numpy())


def quantization(values: ChannelRange, with_zero: bool = False) -> tuple[Array, Array]:
    """Scale and zero point of each channel, float64 [channels] each: `real = scale · (quantized − zero point)`.

    Args:
        values: The range to be held.
        with_zero: Zero must be one of the values, exactly, so the zero point is a whole number from 0 to 255. Otherwise it may
            be any number.
    """
    low, high = (np.minimum(values.low, 0), np.maximum(values.high, 0)) if with_zero else (values.low, values.high)
    scale = np.maximum((high - low) / UINT8_MAX, MIN_SCALE)
    return scale, np.round(-low / scale) if with_zero else -low / scale
