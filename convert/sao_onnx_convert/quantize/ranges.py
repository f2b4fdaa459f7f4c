"""What the decoder's layers are seen to compute while it is calibrated, and the 8-bit codes that hold it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from sao_onnx_convert.export.builder import Array
from sao_onnx_convert.family.stable_audio_open.networks.autoencoder import ResidualUnit, Snake

STEPS = 255
"""The largest code."""

TINY = 1e-9
"""The least scale, for channels that are always zero."""


@dataclass(frozen=True)
class Range:
    """Least and largest value of each channel that was seen, float64 [channels]."""

    low: Array
    high: Array

    def __or__(self, other: Range) -> Range:
        """What holds both."""
        return Range(np.minimum(self.low, other.low), np.maximum(self.high, other.high))


@dataclass(frozen=True)
class Seen:
    """What went into a layer and what came out, and each input channel's sum over so many frames."""

    input: Range
    output: Range
    total: Array
    frames: int

    def __or__(self, other: Seen) -> Seen:
        """What holds both."""
        frames = self.frames + other.frames
        return Seen(self.input | other.input, self.output | other.output, self.total + other.total, frames)

    @property
    def mean(self) -> Array:
        """Of each input channel."""
        return self.total / self.frames


class Observer:
    """Records what every Snake, convolution and residual unit sees while a module runs."""

    def __init__(self, module: nn.Module) -> None:
        self._seen: dict[nn.Module, Seen] = {}
        self._hooks = [
            child.register_forward_hook(self._record)
            for child in module.modules()
            if isinstance(child, (Snake, nn.Conv1d, nn.ConvTranspose1d, ResidualUnit))
        ]

    def _record(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        (x,) = inputs
        seen = Seen(_range(x), _range(output), x.double().sum(dim=(0, 2)).numpy(), x.shape[0] * x.shape[2])
        self._seen[module] = self._seen[module] | seen if module in self._seen else seen

    def finish(self) -> dict[nn.Module, Seen]:
        """What was seen; nothing more is recorded."""
        for hook in self._hooks:
            hook.remove()
        return self._seen


def _range(x: Tensor) -> Range:
    return Range(x.amin(dim=(0, 2)).double().numpy(), x.amax(dim=(0, 2)).double().numpy())


def quantization(seen: Range, with_zero: bool = False) -> tuple[Array, Array]:
    """Scale and zero point of codes for a range.

    Args:
        seen: The range.
        with_zero: Zero is among the values, exactly; otherwise the zero point may be a fraction, and outside the codes.
    """
    low, high = (np.minimum(seen.low, 0), np.maximum(seen.high, 0)) if with_zero else (seen.low, seen.high)
    scale = np.maximum((high - low) / STEPS, TINY)
    return scale, np.round(-low / scale) if with_zero else -low / scale
