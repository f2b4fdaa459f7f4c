"""Trains the diffusion transformer and the embedding of the length on latents of sounds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.sao_tiny.data import Order
from models.sao_tiny.denoiser import Denoiser
from models.sao_tiny.examples import Examples
from models.sao_tiny.loop import Schedule, fit
from models.sao_tiny.noisy_latents import blended, expressed, from_own_guess, noise_levels, power
from models.sao_tiny.optimizers import Muon, adamw
from models.sao_tiny.requests import WINDOW
from models.sao_tiny.signals import SAMPLE_RATE

ORDER = Order(first=1_000_000, count=30_000, takes=3, prompts=6, nameless=4)
"""Other sounds than the autoencoder has learned from, whose latents may be a little worse."""

FIRST_SOUNDS = 2000
"""How many are waited for."""

BATCH = 64
SCHEDULE = Schedule(steps=40_000, seconds=480, warmup=300, decay=0.8)
RATE, MATRIX_RATE = 6e-4, 1e-3

POLISH = 0.6
"""Progress from which the last steps of sampling count more, whose errors are heard as they are, and half of the noisy latents
are what sampling would meet: the model's own guess with noise."""

PURE_NOISE, PURE_NOISE_LATE = 0.5, 0.3
"""Share of sounds of which only noise is shown, first and from `POLISH` on: where every clip begins."""

SILENCE, SILENCE_LATE = 10.0, 40.0
"""What an error counts after the end of a clip, first and from `POLISH` on; elsewhere 1."""


def train(model: Denoiser, examples: Examples, folder: Path, device: torch.device, say: Callable[[str], None]) -> None:
    """Train it in place, or finish a training that was cut off."""
    examples.latents.find_bases(examples.kinds, at_least=FIRST_SOUNDS)
    examples.grow(at_least=FIRST_SOUNDS)
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
        bases = latents.bases[latents.basis_of[batch["rows"]]]
        noisy = _turned(bases, blended(mean, deviation, noise, t))
        if phase == 1:
            # Of every other sound that is not pure noise, what sampling would meet there.
            own = slice(round(PURE_NOISE_LATE * BATCH), BATCH, 2)
            given = mean[own], deviation[own], noise[own], t[own], [values[own] for values in conditioning]

            def denoised(x: Tensor, t: Tensor, *conditioning: Tensor) -> Tensor:
                return _turned(bases[own].mT, self._model.denoised(_turned(bases[own], x), t, *conditioning))

            ours, theirs = from_own_guess(denoised, *given)
            noisy, noise = noisy.clone(), noise.clone()
            noisy[own], noise[own] = _turned(bases[own], ours), theirs
        clean = _turned(bases, expressed(mean, deviation, noise))
        found = self._model.denoised(noisy, t, *conditioning)
        places = torch.arange(clean.shape[3], device=clean.device) * (WINDOW / clean.shape[3] / SAMPLE_RATE)
        ended = places > conditioning[1][:, None]
        counts = torch.where(ended, SILENCE_LATE if phase else SILENCE, 1.0)[:, None, None]
        error = (counts * (found - clean).square()).mean((1, 2, 3)) / power(mean, deviation)
        parts = {f"at_{low}": _mean(error, (t >= low) & (t < high)) for low, high in ((0.0, 0.4), (0.4, 0.9), (0.9, 1.0))}
        for number, name in enumerate(("tones", "loops", "others", "nameless")):
            parts[f"pure_{name}"] = _mean(error, (t == 1) & (self._examples.families[batch["rows"]] == number))
        weight = 1 / (t * t.clamp(min=0.25)) if phase else 1 / t
        return parts | {"loss": (weight * error).mean()}


def _turned(bases: Tensor, x: Tensor) -> Tensor:
    """Latents [b, 2, channels, n] whose places along the columns of matrices [b, channels, channels] are `x`."""
    return torch.einsum("bcd,bsdn->bscn", bases, x)


def _mean(values: Tensor, where: Tensor) -> Tensor:
    return (values * where).sum() / where.sum()


def _optimizers(model: Denoiser) -> list[torch.optim.Optimizer]:
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "transformer.layers" in name]
    chosen = {id(parameter) for parameter in matrices}
    others = [p for p in model.parameters() if id(p) not in chosen]
    return [
        Muon(matrices, lr=MATRIX_RATE, weight_decay=0.1),
        adamw(others, lr=RATE),
    ]
