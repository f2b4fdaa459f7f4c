"""The weights that the training of the transformer begins with."""

from __future__ import annotations

import math
from typing import Any, cast

import torch

from models.sao_tiny.denoiser import Denoiser
from models.sao_tiny.requests import WINDOW
from models.sao_tiny.signals import REPEAT
from sao_onnx_convert.source.config import ModelConfig

LENGTH_WAVES = 6.0
"""Standard deviation of the frequencies by which the length is told, in periods over its range."""


def untrained(config: ModelConfig) -> Denoiser:
    """The network with the weights that training begins with."""
    torch.manual_seed(0)
    model = Denoiser(config)
    initialize(model, config.model.pretransform.config.downsampling_ratio)
    return model


@torch.no_grad()
def initialize(model: Denoiser, ratio: int) -> None:
    """Weights to begin with: places as waves, what blocks add small, what goes around them nothing.

    A held tone is the same again after `REPEAT` frames, so that its latents are sums of the waves that fit into them. The
    other waves are those of half periods in the window, up to the pace of a loop's strokes. The length is told by waves as
    fine, so that the end of a clip is found to a latent.

    Args:
        model: Changed in place.
        ratio: Frames a latent.
    """
    dit, transformer = model.dit, model.dit.transformer
    cast(Any, model.seconds.embedder.embedding[0]).weights.mul_(LENGTH_WAVES)
    embedding = cast(Any, transformer.pos_emb).emb.weight
    places = torch.arange(len(embedding))[:, None] - 1.0  # The prepended token comes first.
    count = REPEAT // ratio
    periodic = 2 * math.pi / count * places * torch.arange(1, count // 2 + 1)
    slow = math.pi / (WINDOW // ratio) * (places + 0.5) * torch.arange(1, embedding.shape[1] - count + 1)
    waves = torch.cat([periodic.cos(), periodic.sin(), slow.cos()], dim=1)
    # `forward` divides by the root of the width.
    embedding.copy_(0.5 * embedding.shape[1] ** 0.5 * waves)
    for block in cast(Any, transformer.layers):
        for linear in (block.self_attn.to_out, block.cross_attn.to_out, block.ff.ff[2]):
            linear.weight.mul_((2 * len(transformer.layers)) ** -0.5)
    for convolution in (dit.preprocess_conv, dit.postprocess_conv):
        convolution.weight.zero_()
