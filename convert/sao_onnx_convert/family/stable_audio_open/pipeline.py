"""A whole generation in PyTorch, from the checkpoint alone.

It computes what the engine must compute, and shares no code with it: torch's own noise, samplers of its own, the decoder in one
piece. The quantization recipe is calibrated with it, tests compare the engine with it, and benchmarks measure it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from sao_onnx.bundle.manifest import SamplerName
from sao_onnx_convert.family.stable_audio_open.networks.model import AudioModel, load_model
from sao_onnx_convert.family.stable_audio_open.sampling import DEFAULTS, SAMPLERS, schedule
from sao_onnx_convert.family.stable_audio_open.text_encoder import T5, load_t5, t5_width
from sao_onnx_convert.source.config import load_config
from sao_onnx_convert.source.config_fields import ModelConfig
from sao_onnx_convert.source.file_names import CONFIG, WEIGHTS


class TorchPipeline:
    """A model of this family in PyTorch, single precision.

    Attributes:
        config: The checkpoint's configuration.
        model: Its networks.
        t5: The text encoder and its tokenizer.
    """

    def __init__(self, config: ModelConfig, model: AudioModel, t5: T5) -> None:
        self.config = config
        self.model = model
        self.t5 = t5

    @classmethod
    def load(cls, checkpoint: Path, t5: Path) -> TorchPipeline:
        """Load a folder with `model_config.json` and `model.safetensors`, and the folder of a T5 encoder.

        Raises:
            ConversionError: The model is not supported, or a file is missing or damaged.
        """
        config = load_config(checkpoint / CONFIG)
        return cls(config, load_model(config, t5_width(t5), checkpoint / WEIGHTS), load_t5(t5))

    @torch.no_grad()
    def condition(self, prompt: str, numbers: Mapping[str, float]) -> tuple[Tensor, Tensor]:
        """Cross-attention tokens [1, tokens, width] and global condition [1, channels]."""
        id, length = self.config.prompt.id, self.config.prompt.config.max_length
        ids = self.t5.tokenizer.encode(prompt).ids[:length]
        padded = torch.full((1, length), self.t5.pad_id)
        padded[0, : len(ids)] = torch.tensor(ids)
        mask = (torch.arange(length) < len(ids)).long()[None]
        embeddings = self.t5.encoder(input_ids=padded, attention_mask=mask).last_hidden_state
        tokens = {id: self.model.prompt_projection(id)(embeddings) * mask[..., None]}
        for name, value in numbers.items():
            tokens[name] = self.model.number(name)(torch.tensor([value]))
        diffusion = self.config.model.diffusion
        cross = torch.cat([tokens[name] for name in diffusion.cross_attention_cond_ids], dim=1)
        return cross, torch.cat([tokens[name][:, 0] for name in diffusion.global_cond_ids], dim=1)

    @torch.no_grad()
    def sample(
        self,
        cross_attention: Tensor,
        global_condition: Tensor,
        seed: int,
        *,
        steps: int | None = None,
        sampler: SamplerName | None = None,
        cfg_scale: float | None = None,
        after_step: Callable[[int], None] = lambda index: None,
    ) -> Tensor:
        """Latents [1, channels, n] of a whole window.

        Args:
            cross_attention: Conditioning tokens, [1, tokens, width].
            global_condition: [1, channels].
            seed: Of torch's generator.
            steps: Sampling steps, at least 1; None for the default of the model's objective, as below.
            sampler: Name of the sampler.
            cfg_scale: Scale of classifier-free guidance away from conditioning tokens of zeros; 1 is none.
            after_step: Called with the index of each step that is done.
        """
        defaults = DEFAULTS[self.config.objective]
        scale = defaults.cfg_scale if cfg_scale is None else cfg_scale
        shape = (1, self.config.model.pretransform.config.latent_dim, self.config.window)
        generator = torch.Generator().manual_seed(seed)

        def noise() -> Tensor:
            return torch.randn(shape, generator=generator)

        def velocity(x: Tensor, sigma: Tensor) -> Tensor:
            conditioned: Tensor = self.model.dit(x, sigma, cross_attention, global_condition)
            if scale == 1:
                return conditioned
            unconditioned: Tensor = self.model.dit(x, sigma, torch.zeros_like(cross_attention), global_condition)
            return unconditioned + scale * (conditioned - unconditioned)

        x = noise()
        run = SAMPLERS[sampler or defaults.sampler]
        for index, latents in enumerate(run(velocity, x, schedule(steps or defaults.steps), noise)):
            x = latents
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
