"""A whole generation in PyTorch, from the checkpoint alone: what the engine must compute, written a second time.

It shares the networks with the conversion and nothing with the engine: torch's own noise, a sampling loop of its own, the
decoder in one piece. Tests compare the engine with it, and benchmarks measure it as PyTorch's side.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from sao_onnx_convert.family.stable_audio_open.networks.model import AudioModel, load_model
from sao_onnx_convert.family.stable_audio_open.text_encoder import Text, load_text, t5_width
from sao_onnx_convert.source.config import load_config
from sao_onnx_convert.source.config_fields import ModelConfig
from sao_onnx_convert.source.file_names import CONFIG, WEIGHTS


class TorchPipeline:
    """Stable Audio Open Small in PyTorch, single precision.

    Attributes:
        config: The checkpoint's configuration.
        model: Its networks.
        text: T5 and its tokenizer.
    """

    def __init__(self, config: ModelConfig, model: AudioModel, text: Text) -> None:
        self.config = config
        self.model = model
        self.text = text

    @classmethod
    def load(cls, checkpoint: Path, t5: Path) -> TorchPipeline:
        """Load a folder with `model_config.json` and `model.safetensors`, and the folder of a T5 encoder.

        Raises:
            ConversionError: The model is not supported, or a file is missing or damaged.
        """
        config = load_config(checkpoint / CONFIG)
        return cls(config, load_model(config, t5_width(t5), checkpoint / WEIGHTS), load_text(t5))

    @torch.no_grad()
    def condition(self, prompt: str, numbers: Mapping[str, float]) -> tuple[Tensor, Tensor]:
        """Cross-attention tokens [1, tokens, width] and global condition [1, channels]."""
        id, length = self.config.prompt.id, self.config.prompt.config.max_length
        ids = self.text.tokenizer.encode(prompt).ids[:length]
        padded = torch.full((1, length), self.text.pad_id)
        padded[0, : len(ids)] = torch.tensor(ids)
        mask = (torch.arange(length) < len(ids)).long()[None]
        embeddings = self.text.encoder(input_ids=padded, attention_mask=mask).last_hidden_state
        tokens = {id: self.model.prompt_projection(id)(embeddings) * mask[..., None]}
        for name, value in numbers.items():
            tokens[name] = self.model.number(name)(torch.tensor([value]))
        diffusion = self.config.model.diffusion
        cross = torch.cat([tokens[name] for name in diffusion.cross_attention_cond_ids], dim=1)
        return cross, torch.cat([tokens[name][:, 0] for name in diffusion.global_cond_ids], dim=1)

    @torch.no_grad()
    def sample(
        self, cross: Tensor, condition: Tensor, seed: int, steps: int, after_step: Callable[[int], None] = lambda index: None
    ) -> Tensor:
        """Latents [1, channels, n] of a whole window by ping-pong sampling."""
        shape = (1, self.config.model.pretransform.config.latent_dim, self.config.window)
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(shape, generator=generator)
        levels = torch.sigmoid(-torch.linspace(-6, 2, steps + 1))
        levels[0], levels[-1] = 1, 0
        for index, (t, after) in enumerate(itertools.pairwise(levels)):
            denoised = x - t * self.model.dit(x, t[None], cross, condition)
            x = (1 - after) * denoised + after * torch.randn(shape, generator=generator)
            after_step(index)
        return x

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Audio [1, channels, frames] of latents."""
        audio: Tensor = self.model.autoencoder.decoder(latents)
        return audio

    @torch.no_grad()
    def encode(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the latents of audio."""
        return self.model.autoencoder.encode(audio)
