"""The conditioners whose weights are in the checkpoint: number conditioners, and the projection after the T5 encoder."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sao_onnx_convert.source.config_fields import NumberConditionerConfig

FEATURES = 256


class LearnedPositions(nn.Module):
    """A number [b] to `[x, sin 2πxw, cos 2πxw]`, [b, 257], with learned frequencies w."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.randn(features // 2))

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, None]
        angle = x * self.weights * 2 * math.pi
        return torch.cat([x, angle.sin(), angle.cos()], dim=-1)


class NumberEmbedder(nn.Module):
    """Features of a number, and a Linear: [b] to [b, width]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embedding = nn.Sequential(LearnedPositions(FEATURES), nn.Linear(FEATURES + 1, width))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.embedding(x)
        return y


class NumberConditioner(nn.Module):
    """A number [b], clamped to its range, to one token [b, 1, width] (`NumberConditioner` of stable-audio-tools)."""

    def __init__(self, config: NumberConditionerConfig, width: int) -> None:
        super().__init__()
        self.minimum, self.maximum = config.config.min_val, config.config.max_val
        self.embedder = NumberEmbedder(width)

    def forward(self, x: Tensor) -> Tensor:
        x = (x.clamp(self.minimum, self.maximum) - self.minimum) / (self.maximum - self.minimum)
        y: Tensor = self.embedder(x)
        return y[:, None]


class PromptProjection(nn.Module):
    """From T5 embeddings [b, tokens, T5 width] to conditioning tokens [b, tokens, width]: a Linear, or nothing."""

    def __init__(self, t5_width: int, width: int, project_out: bool) -> None:
        super().__init__()
        linear = t5_width != width or project_out
        self.proj_out = nn.Linear(t5_width, width) if linear else nn.Identity()

    def forward(self, embeddings: Tensor) -> Tensor:
        y: Tensor = self.proj_out(embeddings)
        return y
