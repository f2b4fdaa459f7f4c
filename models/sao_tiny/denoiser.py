"""The diffusion transformer with the embedding of the length, as they are trained together."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sao_onnx_convert.family.stable_audio_open.networks.conditioners import NumberConditioner
from sao_onnx_convert.family.stable_audio_open.networks.dit import DiffusionTransformer
from sao_onnx_convert.source.config import ModelConfig


class Denoiser(nn.Module):
    """The diffusion transformer and what is trained with it."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.dit = DiffusionTransformer(config.model.diffusion.config)
        self.seconds = NumberConditioner(config.numbers[0], config.model.conditioning.cond_dim)

    def forward(self, x: Tensor, t: Tensor, prompt: Tensor, seconds: Tensor, shown: Tensor) -> Tensor:
        """Velocity, where `shown` [b] is 0 without any conditioning, as unconditional guidance asks."""
        length = self.seconds(seconds)
        tokens = torch.cat([prompt, length], dim=1) * shown[:, None, None]
        y: Tensor = self.dit(x, t, tokens, length[:, 0])
        return y

    def denoised(self, x: Tensor, t: Tensor, *conditioning: Tensor) -> Tensor:
        """The estimate of the clean latents at levels t [b], as `x` [b, 2, channels, n]."""
        with torch.autocast(x.device.type, torch.bfloat16):
            velocity = self(x.flatten(1, 2), t, *conditioning)
        clean: Tensor = x - t[:, None, None, None] * velocity.float().view_as(x)
        return clean
