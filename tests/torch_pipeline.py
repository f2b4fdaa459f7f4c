"""The whole generation in PyTorch, from the checkpoint alone: what the engine must compute, written a second time.

It shares the networks with the converter and nothing with the engine: torch's own noise, its own sampling loop.
"""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from sao_onnx_convert.checkpoint import load_weights
from sao_onnx_convert.config import load_config
from sao_onnx_convert.networks.model import AudioModel
from sao_onnx_convert.text_encoder import load_text, t5_width


class Pipeline:
    def __init__(self, checkpoint: Path, t5: Path) -> None:
        self.config = load_config(checkpoint / "model_config.json")
        self.model = AudioModel(self.config, t5_width(t5)).eval().requires_grad_(False)
        load_weights(self.model, checkpoint / "model.safetensors")
        self.text = load_text(t5)
        self.tokenizer = Tokenizer.from_file(str(t5 / "tokenizer.json"))

    def condition(self, prompt: str, numbers: dict[str, float]) -> tuple[torch.Tensor, torch.Tensor]:
        length = self.config.prompt.config.max_length
        ids = self.tokenizer.encode(prompt).ids
        padded = torch.full((1, length), self.text.pad_id)
        padded[0, : len(ids)] = torch.tensor(ids)
        mask = (torch.arange(length) < len(ids)).long()[None]
        embeddings = self.text.encoder(input_ids=padded, attention_mask=mask).last_hidden_state
        tokens = {self.config.prompt.id: self.model.prompt_projection(self.config.prompt.id)(embeddings) * mask[..., None]}
        for name, value in numbers.items():
            tokens[name] = self.model.number(name)(torch.tensor([value]))
        diffusion = self.config.model.diffusion
        cross = torch.cat([tokens[name] for name in diffusion.cross_attention_cond_ids], dim=1)
        return cross, torch.cat([tokens[name][:, 0] for name in diffusion.global_cond_ids], dim=1)

    @torch.no_grad()
    def pingpong(self, prompt: str, numbers: dict[str, float], seed: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
        cross, condition = self.condition(prompt, numbers)
        autoencoder = self.config.model.pretransform.config
        generator = torch.Generator().manual_seed(seed)
        shape = (1, autoencoder.latent_dim, self.config.sample_size // autoencoder.downsampling_ratio)
        x = torch.randn(shape, generator=generator)
        t = torch.sigmoid(-torch.linspace(-6, 2, steps + 1))
        t[0], t[-1] = 1, 0
        for now, after in itertools.pairwise(t):
            denoised = x - now * self.model.dit(x, now[None], cross, condition)
            x = (1 - after) * denoised + after * torch.randn(shape, generator=generator)
        return x[0].numpy(), self.model.autoencoder.decoder(x)[0].numpy()

    @torch.no_grad()
    def encode(self, audio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean, stdev = self.model.autoencoder.encode(torch.from_numpy(audio))
        return mean.numpy(), stdev.numpy()


def decoded_frames(latents: int, strides: list[int]) -> int:
    """Audio frames that the decoder makes of so many latents: odd strides cost one frame at each block."""
    frames = latents
    for stride in reversed(strides):
        frames = frames * stride + stride - 2 * math.ceil(stride / 2)
    return frames
