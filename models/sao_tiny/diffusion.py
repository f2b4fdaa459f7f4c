"""Trains the diffusion transformer and the embedding of the length on latents of the trained autoencoder."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import T5EncoderModel

from models.sao_tiny.data import training_sound
from models.sao_tiny.loop import Schedule, fit, fused
from models.sao_tiny.requests import HIGHEST_NOTE, LOWEST_NOTE, WINDOW, Sound, describe, render
from models.sao_tiny.signals import SAMPLE_RATE
from models.sao_tiny.sounds import hertz
from models.sao_tiny.text import MAX_TOKENS, encode
from sao_onnx_convert.config import ModelConfig
from sao_onnx_convert.networks.autoencoder import Autoencoder
from sao_onnx_convert.networks.conditioners import NumberConditioner
from sao_onnx_convert.networks.dit import DiffusionTransformer

SOUNDS = 8000
BATCH = 16
SCHEDULE = Schedule(steps=14_000, rate=1.0, decay=0.35)
RATE, MATRIX_RATE = 1e-3, 2e-3
WITHOUT_PROMPT = 0.05
"""Share of sounds that are shown without a prompt, so that guidance has something to lead away from."""

PURE_NOISE = 0.4
"""Share of sounds of which only noise is shown: where every clip begins, and what is learned last."""

QUIETEST = 0.01
"""Power of latents below which no sound is taken to be."""

TOLD = 32
"""Channels of a token that the prompt is told to as training begins."""

FIRST = 1_000_000
"""Number of the first sound, so that the autoencoder and this have different ones."""


class Denoiser(nn.Module):
    """The diffusion transformer and what is trained with it."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.dit = DiffusionTransformer(config.model.diffusion.config)
        self.seconds = NumberConditioner(config.numbers[0], config.model.conditioning.cond_dim)
        self._begin(config)

    @torch.no_grad()
    def _begin(self, config: ModelConfig) -> None:
        """Weights that training starts from: what comes in goes out, the velocity of pure noise in front of silence.

        Latents stand in the first channels of a token. Its place in the sequence stands behind them, as the phases that the
        notes have come to when its latent begins, so that a tone is a choice among them. What the prompt says comes last, and
        opens or closes units that hold one phase each: from anywhere else no slope leads to a held tone, which is nothing on
        average.
        """
        for name, parameter in self.dit.named_parameters():
            if name.endswith(("to_out.weight", "ff.2.weight", "ff.2.bias")) or "process_conv" in name:
                nn.init.zeros_(parameter)
        inside = self.dit.transformer
        width, channels = inside.project_in.weight.shape
        nn.init.eye_(inside.project_in.weight)
        nn.init.eye_(inside.project_out.weight)
        if inside.pos_emb is None:
            return
        table = inside.pos_emb.emb.weight
        places = slice(channels, width - TOLD)
        # The first token is no latent.
        latents = torch.arange(len(table)) - 1
        phases = note_phases(latents * config.model.pretransform.config.downsampling_ratio / SAMPLE_RATE)
        units = phases.shape[1]
        directions = torch.linalg.svd(phases, full_matrices=False).Vh[: width - TOLD - channels]
        # The embedding is divided by the root of the width.
        table.zero_()
        table[:, places] = math.sqrt(2 * width) * phases @ directions.T
        for block in cast(Any, inside.layers):
            nn.init.normal_(block.cross_attn.to_out.weight[-TOLD:])
            values, gates = block.ff.ff[0].proj.weight.chunk(2)
            values[:units] = 0.0
            values[:units, places] = directions.T
            gates[:units] = 0.0
            nn.init.normal_(gates[:units, -TOLD:], std=TOLD**-0.5)

    def forward(self, x: Tensor, t: Tensor, prompt: Tensor, seconds: Tensor, shown: Tensor) -> Tensor:
        """Velocity, where `shown` [b] is 0 without any conditioning, as unconditional guidance asks."""
        length = self.seconds(seconds)
        tokens = torch.cat([prompt, length], dim=1) * shown[:, None, None]
        y: Tensor = self.dit(x, t, tokens, length[:, 0])
        return y


def train(
    config: ModelConfig,
    autoencoder: Autoencoder,
    tokenizer: Tokenizer,
    encoder: T5EncoderModel,
    folder: Path,
    device: torch.device,
    say: Callable[[str], None],
) -> Denoiser:
    """Train it, or finish a training that was cut off."""
    torch.manual_seed(0)
    latents = encoded(autoencoder, folder, device, say)
    model = Denoiser(config).to(device)
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "transformer.layers" in name]
    chosen = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in chosen]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.Muon(matrices, lr=MATRIX_RATE, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=RATE, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    sounds = [training_sound(FIRST + index)[1] for index in range(len(latents))]

    def losses(step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((2, step))
        chosen = rng.integers(len(sounds), size=BATCH)
        clean = torch.from_numpy(latents[chosen].astype(np.float32)).to(device)
        prompt, seconds = conditioning(rng, [sounds[index] for index in chosen], tokenizer, encoder, device)
        shown = (torch.rand(BATCH, device=device) >= WITHOUT_PROMPT).float()
        t = noise_levels(BATCH).to(device)
        noise = torch.randn_like(clean)
        noisy = (1 - t[:, None, None]) * clean + t[:, None, None] * noise
        with torch.autocast(device.type, torch.bfloat16):
            velocity = model(noisy, t, prompt, seconds, shown)
        error = (velocity.float() - (noise - clean)).square().mean((1, 2)) / unexplained(clean, t)
        parts = {
            f"at_{low}": error[(t >= low) & (t < high)].mean() for low, high in ((0.0, 0.4), (0.4, 0.9), (0.9, 1.0), (1.0, 2.0))
        }
        return {name: value.nan_to_num() for name, value in parts.items()} | {"loss": error.mean()}

    fit("diffusion", folder, model, optimizers, SCHEDULE, losses, say)
    return model.eval().requires_grad_(False)


def unexplained(clean: Tensor, t: Tensor) -> Tensor:
    """Variance of the velocity [b] that a linear guess of clean latents [b, channels, n] of this power leaves at levels t [b].

    Errors are counted in units of it. A held tone fills the window and a hi-hat a fiftieth; as they are, nothing but tones
    would be learned.
    """
    power = clean.square().mean((1, 2)).clamp(min=QUIETEST)
    return power / ((1 - t).square() * power + t.square())


def noise_levels(count: int) -> Tensor:
    """Levels to train at [count]: pure noise, then evenly spread in log-SNR over and beyond what eight steps visit."""
    pure = round(PURE_NOISE * count)
    places = (torch.arange(count - pure) + torch.rand(count - pure)) / (count - pure)
    return torch.cat([torch.ones(pure), torch.sigmoid(6.5 - 9.0 * places)])


def note_phases(seconds: Tensor) -> Tensor:
    """Cosines, then sines, of all notes at some times [n]: [n, 2 × notes]."""
    turns = seconds[:, None] * torch.tensor([hertz(note) for note in range(LOWEST_NOTE, HIGHEST_NOTE + 1)])
    return torch.cat([torch.cos(2 * math.pi * turns), torch.sin(2 * math.pi * turns)], dim=1)


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


def encoded(
    autoencoder: Autoencoder, folder: Path, device: torch.device, say: Callable[[str], None]
) -> np.ndarray[Any, np.dtype[np.float16]]:
    """Latents of `SOUNDS` training sounds: float16 [SOUNDS, channels, n], made once, 200 sounds a file."""
    folder = folder / "latents"
    folder.mkdir(exist_ok=True)
    encode = fused(autoencoder.encode)
    parts = []
    for first in range(0, SOUNDS, 200):
        path = folder / f"{first}.npy"
        if not path.is_file():
            with torch.no_grad(), torch.autocast(device.type, torch.bfloat16):
                pieces = [_encoded(encode, index, device) for index in range(first, first + 200, 8)]
            with path.with_suffix(".part").open("wb") as file:
                np.save(file, np.concatenate(pieces))
            path.with_suffix(".part").replace(path)
            say(f"encoded {first + 200} of {SOUNDS} sounds")
        parts.append(np.load(path))
    return np.concatenate(parts)


def _encoded(encode: Any, first: int, device: torch.device) -> np.ndarray[Any, np.dtype[np.float16]]:
    audio = np.empty((8, 2, WINDOW), np.float32)
    for row, index in zip(audio, range(first, first + 8), strict=True):
        rng, sound = training_sound(FIRST + index)
        row[:] = render(rng, sound)
    mean, stdev = encode(torch.from_numpy(audio).to(device))
    torch.manual_seed(first)
    return np.asarray((mean.float() + stdev.float() * torch.randn(mean.shape, device=device)).cpu().numpy(), np.float16)
