"""Trains the diffusion transformer and the embedding of the length on what the trained autoencoder makes of sounds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import T5EncoderModel

from models.sao_tiny.beginning import Examples, begin, shared_between_neighbours
from models.sao_tiny.data import training_sound
from models.sao_tiny.loop import Schedule, fit
from models.sao_tiny.moments import moments
from models.sao_tiny.requests import WINDOW, Sound, describe
from models.sao_tiny.signals import SAMPLE_RATE
from models.sao_tiny.text import MAX_TOKENS, Reader, encode
from sao_onnx_convert.config import ModelConfig
from sao_onnx_convert.networks.autoencoder import Autoencoder
from sao_onnx_convert.networks.conditioners import NumberConditioner
from sao_onnx_convert.networks.dit import DiffusionTransformer

SOUNDS = 12_000
BATCH = 16
SCHEDULE = Schedule(steps=9500, rate=1.0, decay=0.7)
RATE, MATRIX_RATE = 5e-4, 8e-4
READING_RATE = 1e-4
"""Of what reads the prompt, which is nearly right as training begins."""

EXAMPLES = 12_000
"""Prompts that the beginning of the weights is made from."""

SHARES = (0.38, 0.31, 0.31)
"""Of tones, loops and all others in a batch."""

WITHOUT_PROMPT = 0.05
"""Share of sounds that are shown without a prompt, so that guidance has something to lead away from."""

POLISH = 7000
"""The step from which the last levels of sampling count more, whose errors are heard as they are."""

PURE_NOISE, PURE_NOISE_LATE = 0.5, 0.3
"""Share of sounds of which only noise is shown, first and from `POLISH` on: where every clip begins."""

SILENCE, SILENCE_LATE, LATE = 10.0, 40.0, 6000
"""What an error counts after the end of a clip, first and from a step on; elsewhere 1."""

QUIETEST = 0.01
"""Power of latents below which no sound is taken to be."""

FIRST = 1_000_000
"""Number of the first sound, so that the autoencoder and this have different ones."""


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


def train(
    config: ModelConfig,
    one: Autoencoder,
    tokenizer: Tokenizer,
    reader: Reader,
    folder: Path,
    device: torch.device,
    say: Callable[[str], None],
) -> Denoiser:
    """Train it, or finish a training that was cut off. `one` is the autoencoder of one channel."""
    means, deviations = moments(one, folder, FIRST, SOUNDS, device, say)
    torch.manual_seed(0)
    model = Denoiser(config)
    if not (folder / "diffusion.pt").is_file():
        _begin(model, config, tokenizer, reader)
    model.to(device)
    shared_between_neighbours(model.dit, config.model.pretransform.config.downsampling_ratio)
    encoder = cast(Any, reader.encoder).to(device)
    reading, matrices, others = [], [], []
    for name, parameter in model.named_parameters():
        if "to_cond_embed" in name or ("cross_attn" in name and "to_out" not in name):
            reading.append(parameter)
        elif parameter.ndim == 2 and "transformer.layers" in name:
            matrices.append(parameter)
        else:
            others.append(parameter)
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.Muon(matrices, lr=MATRIX_RATE, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=RATE, betas=(0.9, 0.98), weight_decay=0.0),
        torch.optim.AdamW(reading, lr=READING_RATE, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    sounds = [training_sound(FIRST + index)[1] for index in range(SOUNDS)]
    families = np.array([0 if sound.note else 1 if sound.tempo else 2 for sound in sounds])
    shares = (np.array(SHARES) / np.bincount(families))[families]

    def losses(step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((2, step))
        chosen = rng.choice(len(sounds), size=BATCH, p=shares)
        mean, deviation = (torch.from_numpy(x[chosen].astype(np.float32)).to(device) for x in (means, deviations))
        prompt, seconds = conditioning(rng, [sounds[index] for index in chosen], tokenizer, encoder, device)
        shown = (torch.rand(BATCH, device=device) >= WITHOUT_PROMPT).float()
        polish = step >= POLISH
        t = noise_levels(BATCH, PURE_NOISE_LATE if polish else PURE_NOISE).to(device)
        noisy, clean = (x.flatten(1, 2) for x in pair(mean, deviation, torch.randn_like(mean), t))
        with torch.autocast(device.type, torch.bfloat16):
            velocity = model(noisy, t, prompt, seconds, shown)
        found = noisy - t[:, None, None] * velocity.float()
        ended = torch.arange(clean.shape[2], device=device) * (WINDOW / clean.shape[2] / SAMPLE_RATE) > seconds[:, None]
        counts = torch.where(ended, SILENCE if step < LATE else SILENCE_LATE, 1.0)[:, None]
        error = (counts * (found - clean).square()).mean((1, 2)) / power(mean, deviation)
        parts = {
            f"at_{low}": error[(t >= low) & (t < high)].mean() for low, high in ((0.0, 0.4), (0.4, 0.9), (0.9, 1.0), (1.0, 2.0))
        }
        weight = 1 / (t * t.clamp(min=0.25)) if polish else 1 / t
        return {name: value.nan_to_num() for name, value in parts.items()} | {"loss": (weight * error).mean()}

    fit("diffusion", folder, model, optimizers, SCHEDULE, losses, say)
    return model.eval().requires_grad_(False)


@torch.no_grad()
def _begin(model: Denoiser, config: ModelConfig, tokenizer: Tokenizer, reader: Reader) -> None:
    """Weights from what the text encoder says of examples of prompts."""
    examples = [training_sound(FIRST + index) for index in range(EXAMPLES)]
    texts, ends = reader.embeddings(encode(tokenizer, [describe(rng, sound) for rng, sound in examples]))
    numbers = reader.told(texts[torch.arange(EXAMPLES), ends])
    notes, tempos = (torch.tensor([getattr(sound, name) for _, sound in examples]) for name in ("note", "tempo"))
    ratio = config.model.pretransform.config.downsampling_ratio
    begin(model.dit, model.seconds, Examples(texts, ends, numbers, notes, tempos), ratio)


def pair(mean: Tensor, deviation: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Noisy latents at levels t [b], and the clean ones that they lead to.

    Rectified flow draws clean latents and noise apart from each other, and learns their average: noise as such is silence
    then, and eight steps never leave it. Here the noise that a sound is made of is the noise that the sampler begins with.
    Latents are normally distributed, with this mean and deviation, so that noisy latents and the clean ones at the end of
    their path are the same multiple of deviations from their means: the consistency function of Song et al., "Consistency
    models" (2023), in closed form. Both channels of a sound have their noise in common, which is the noise along the direction
    of their deviations; across it there is none in the sound.

    Args:
        mean: Of the clean latents, [b, 2, channels, n].
        deviation: The same.
        noise: Of variance 1, the same.
        t: Levels, above 0.

    Returns:
        Both [b, 2, channels, n].
    """
    t = t[:, None, None, None]
    both = deviation.norm(dim=1, keepdim=True)
    direction = deviation / both.clamp(min=1e-6)
    along = (direction * noise).sum(1, keepdim=True)
    size = ((1 - t).square() * both.square() + t.square()).sqrt()
    noisy = (1 - t) * mean + t * noise + (size - t) * along * direction
    return noisy, mean + along * deviation


def power(mean: Tensor, deviation: Tensor) -> Tensor:
    """Of latents with this mean and deviation [b, 2, channels, n]: [b].

    Errors are counted in units of it. A held tone fills the window and a hi-hat a fiftieth; as they are, nothing but tones
    would be learned.
    """
    return (mean.square() + deviation.square()).mean((1, 2, 3)).clamp(min=QUIETEST)


def noise_levels(count: int, share: float) -> Tensor:
    """Levels to train at [count]: a share of pure noise, then evenly spread in log-SNR beyond what eight steps visit."""
    pure = round(share * count)
    places = (torch.arange(count - pure) + torch.rand(count - pure)) / (count - pure)
    return torch.cat([torch.ones(pure), torch.sigmoid(6.0 - 8.5 * places)])


@torch.no_grad()
def conditioning(
    rng: np.random.Generator, sounds: list[Sound], tokenizer: Tokenizer, encoder: T5EncoderModel, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Embeddings of a way to ask for each sound, [b, MAX_TOKENS, width], zeros behind the text; and lengths in seconds [b]."""
    ids = encode(tokenizer, [describe(rng, sound) for sound in sounds]).to(device)
    mask = (ids != 0).long()
    embeddings = encoder(input_ids=ids, attention_mask=mask).last_hidden_state * mask[..., None]
    padded = nn.functional.pad(embeddings, (0, 0, 0, MAX_TOKENS - ids.shape[1]))
    return padded, torch.tensor([sound.seconds for sound in sounds], device=device)
