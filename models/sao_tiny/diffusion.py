"""Trains the diffusion transformer and the embedding of the length on latents of sounds."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from models.sao_tiny.data import Order
from models.sao_tiny.latents import Latents
from models.sao_tiny.loop import Schedule, fit
from models.sao_tiny.noisy_latents import blended, expressed, from_own_guess, noise_levels, power
from models.sao_tiny.optimizers import Muon, adamw
from models.sao_tiny.requests import WINDOW, Sound
from models.sao_tiny.signals import REPEAT, SAMPLE_RATE
from models.sao_tiny.text import Reader
from sao_onnx_convert.family.stable_audio_open.networks.conditioners import NumberConditioner
from sao_onnx_convert.family.stable_audio_open.networks.dit import DiffusionTransformer
from sao_onnx_convert.source.config import ModelConfig

ORDER = Order(first=1_000_000, count=24_000, takes=3, prompts=6)
"""Other sounds than the autoencoder has learned from, whose latents may be a little worse."""

BATCH = 64
SCHEDULE = Schedule(steps=30_000, seconds=300, decay=0.7)
RATE, MATRIX_RATE = 6e-4, 1e-3

SHARES = (0.38, 0.31, 0.31)
"""Of tones, loops and all others in a batch."""

WITHOUT_PROMPT = 0.05
"""Share of sounds that are shown without a prompt, so that guidance has something to lead away from."""

POLISH = 0.6
"""Progress from which the last steps of sampling count more, whose errors are heard as they are, and half of the noisy latents
are what sampling would meet: the model's own guess with noise."""

PURE_NOISE, PURE_NOISE_LATE = 0.5, 0.3
"""Share of sounds of which only noise is shown, first and from `POLISH` on: where every clip begins."""

SILENCE, SILENCE_LATE = 10.0, 40.0
"""What an error counts after the end of a clip, first and from `POLISH` on; elsewhere 1."""

LENGTH_WAVES = 6.0
"""Standard deviation of the frequencies by which the length is told, in periods over its range."""


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


class Examples:
    """Sounds with their latents and the embeddings of their prompts, and batches of them."""

    def __init__(self, latents: Latents, order: Order, reader: Reader, device: torch.device) -> None:
        self.latents, self.device = latents, device
        self._encoder = cast(Any, reader.encoder).to(device)
        sounds = [order.sound(index)[1] for index in range(order.count)]
        families = np.array([family(sound) for sound in sounds])
        self._shares = (np.array(SHARES) / np.bincount(families, minlength=3).clip(1))[families]
        self.families = torch.from_numpy(families).to(device)
        self.seconds = torch.tensor([sound.seconds for sound in sounds], device=device)
        width = self._encoder.config.d_model
        self.prompts = torch.zeros((*latents.ids.shape, width), dtype=torch.float16, device=device)
        """Embeddings, [count, prompts, tokens, width], zeros behind the text."""

    @torch.no_grad()
    def grow(self, at_least: int = 0) -> None:
        """Take over what has become ready."""
        before = self.latents.count
        self.latents.grow(at_least)
        for start in range(before, self.latents.count, 64):
            rows = slice(start, min(start + 64, self.latents.count))
            ids = self.latents.ids[rows].long()
            mask = (ids != 0).long()
            found = self._encoder(input_ids=ids.flatten(0, 1), attention_mask=mask.flatten(0, 1)).last_hidden_state
            self.prompts[rows] = (found.view(*ids.shape, -1) * mask[..., None]).half()

    def draw(self, rng: np.random.Generator, count: int) -> dict[str, Tensor]:
        """Rows of the latents [count], which of their prompts, and whether it is shown."""
        shares = self._shares[: self.latents.count]
        found = {
            "rows": rng.choice(self.latents.count, size=count, p=shares / shares.sum()),
            "prompts": rng.integers(self.prompts.shape[1], size=count),
            "shown": (rng.random(count) >= WITHOUT_PROMPT).astype(np.float32),
        }
        return {name: torch.from_numpy(values).to(self.device) for name, values in found.items()}

    def conditioning(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Embeddings of the prompts [b, tokens, width], lengths in seconds [b], what is shown [b]."""
        return self.prompts[batch["rows"], batch["prompts"]].float(), self.seconds[batch["rows"]], batch["shown"]


def family(sound: Sound) -> int:
    """0 for tones, 1 for loops, 2 for all others."""
    return 0 if sound.note else 1 if sound.tempo else 2


def untrained(config: ModelConfig) -> Denoiser:
    """The network with the weights that training begins with."""
    torch.manual_seed(0)
    model = Denoiser(config)
    begin(model, config.model.pretransform.config.downsampling_ratio)
    return model


def train(model: Denoiser, examples: Examples, folder: Path, device: torch.device, say: Callable[[str], None]) -> None:
    """Train it in place, or finish a training that was cut off."""
    examples.grow(at_least=2000)
    model.to(device)
    if device.type == "cuda":
        compile_blocks(model)
    fit("diffusion", folder, model, _optimizers(model), SCHEDULE, Denoising(model, examples), say)
    model.eval().requires_grad_(False)


def compile_blocks(model: Denoiser) -> None:
    """Let every block run as few kernels: most of the time goes into moving what lies between its products.

    All blocks are one code, which is compiled once for each size of a batch. On a processor it is not worth the time.
    """
    for block in model.dit.transformer.layers:
        block.compile(dynamic=False)


class Denoising:
    """The task of the training: noisy latents of sounds, and the clean ones."""

    def __init__(self, model: Denoiser, examples: Examples) -> None:
        self._model, self._examples = model, examples

    def phase(self, progress: float) -> int:
        """0, and 1 for the last part of the training."""
        return int(progress >= POLISH)

    def draw(self, step: int, progress: float) -> dict[str, Tensor]:
        """The examples of a step, and their noise levels."""
        if step % 20 == 0:
            self._examples.grow()
        levels = noise_levels(BATCH, PURE_NOISE_LATE if self.phase(progress) else PURE_NOISE)
        return self._examples.draw(np.random.default_rng((2, step)), BATCH) | {"t": levels.to(self._examples.device)}

    def losses(self, phase: int, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The loss of a batch, and parts of it for the log."""
        latents, t = self._examples.latents, batch["t"]
        conditioning = self._examples.conditioning(batch)
        mean, deviation = latents.mean[batch["rows"]].float(), latents.deviation[batch["rows"]].float()
        noise = torch.randn_like(mean)
        noisy = blended(mean, deviation, noise, t)
        if phase == 1:
            # Of every other sound that is not pure noise, what sampling would meet there.
            own = slice(round(PURE_NOISE_LATE * BATCH), BATCH, 2)
            given = mean[own], deviation[own], noise[own], t[own], [values[own] for values in conditioning]
            ours, theirs = from_own_guess(self._model.denoised, *given)
            noisy, noise = noisy.clone(), noise.clone()
            noisy[own], noise[own] = ours, theirs
        clean = expressed(mean, deviation, noise)
        found = self._model.denoised(noisy, t, *conditioning)
        places = torch.arange(clean.shape[3], device=clean.device) * (WINDOW / clean.shape[3] / SAMPLE_RATE)
        ended = places > conditioning[1][:, None]
        counts = torch.where(ended, SILENCE_LATE if phase else SILENCE, 1.0)[:, None, None]
        error = (counts * (found - clean).square()).mean((1, 2, 3)) / power(mean, deviation)
        parts = {f"at_{low}": _mean(error, (t >= low) & (t < high)) for low, high in ((0.0, 0.4), (0.4, 0.9), (0.9, 1.0))}
        for number, name in enumerate(("tones", "loops", "others")):
            parts[f"pure_{name}"] = _mean(error, (t == 1) & (self._examples.families[batch["rows"]] == number))
        weight = 1 / (t * t.clamp(min=0.25)) if phase else 1 / t
        return parts | {"loss": (weight * error).mean()}


def _mean(values: Tensor, where: Tensor) -> Tensor:
    return (values * where).sum() / where.sum()


def _optimizers(model: Denoiser) -> list[torch.optim.Optimizer]:
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "transformer.layers" in name]
    chosen = {id(parameter) for parameter in matrices}
    others = [p for p in model.parameters() if id(p) not in chosen]
    return [
        Muon(matrices, lr=MATRIX_RATE, weight_decay=0.01),
        adamw(others, lr=RATE),
    ]


@torch.no_grad()
def begin(model: Denoiser, ratio: int) -> None:
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
