"""Trains the decoder alone, last of all, on what the transformer makes of noisy latents."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from models.sao_tiny.autoencoder import CROP, LATE_FLOOR, LATE_SPECTRUM, LATE_WAVE, optimizers
from models.sao_tiny.denoiser import Denoiser
from models.sao_tiny.examples import Examples
from models.sao_tiny.loop import Schedule, fit
from models.sao_tiny.reconstruction import Reconstruction
from models.sao_tiny.requests import WINDOW
from sao_onnx_convert.family.stable_audio_open.networks.autoencoder import Autoencoder

SCHEDULE = Schedule(steps=6000, seconds=225, warmup=50)
BATCH = 24
MARGIN = 8
"""Latents on each side of an excerpt that the decoder sees and that are not compared."""

LEVELS = (0.02, 0.27, 0.27, 0.27, 0.5, 0.27)
"""Of the noise from which the transformer's latents are made, in turn: its last steps."""


def train(model: Autoencoder, denoiser: Denoiser, examples: Examples, folder: Path, say: Callable[[str], None]) -> None:
    """Train the decoder of one channel, in place, to decode what the transformer makes of noisy latents of a sound.

    So its errors do not come out as noise. The encoder stays as it is, and so do latents; a third of a batch is their own.
    """
    decoder = model.decoder.requires_grad_(True).train()
    fit("decoder", folder, decoder, optimizers(decoder), SCHEDULE, _Decoding(decoder, denoiser, examples), say)
    decoder.eval().requires_grad_(False)


class _Decoding:
    """What the transformer makes of noisy latents, and the audio that it should be."""

    def __init__(self, decoder: nn.Module, denoiser: Denoiser, examples: Examples) -> None:
        self._decoder, self._denoiser, self._examples = decoder, denoiser, examples
        examples.grow()
        self._ratio = WINDOW // examples.latents.first.shape[3]
        self._gains = torch.from_numpy(examples.latents.gains).to(examples.device)
        self._reconstruction = Reconstruction().to(examples.device)
        self._t = torch.tensor(LEVELS, device=examples.device).repeat(BATCH)[:BATCH]
        self._exact = torch.arange(BATCH, device=examples.device)[:, None, None, None] % 3 == 0

    def phase(self, progress: float) -> int:
        return 0

    def draw(self, step: int, progress: float) -> dict[str, Tensor]:
        rng = np.random.default_rng((3, step))
        batch = self._examples.draw(rng, BATCH)
        last = WINDOW // self._ratio - CROP // self._ratio - 2 * MARGIN
        drawn = {"starts": rng.integers(0, last + 1, size=BATCH), "sides": rng.integers(0, 2, size=BATCH)}
        return batch | {name: torch.from_numpy(values).to(self._examples.device) for name, values in drawn.items()}

    def losses(self, phase: int, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        latents, rows, starts, ratio = self._examples.latents, batch["rows"], batch["starts"], self._ratio
        with torch.no_grad():
            clean, t = latents.first[rows].float(), self._t[:, None, None, None]
            noisy = (1 - t) * clean + t * torch.randn_like(clean)
            guess = self._denoiser.denoised(noisy, self._t, *self._examples.conditioning(batch))
            guess = torch.where(self._exact, clean + 0.02 * torch.randn_like(clean), guess)
            places = starts[:, None] + torch.arange(CROP // ratio + 2 * MARGIN, device=clean.device)
            # One channel of each sound: two of them seldom differ in more than their level.
            sides = torch.arange(BATCH, device=clean.device), batch["sides"]
            guess = guess[sides]
            pieces = guess.gather(2, places[:, None].expand(-1, guess.shape[1], -1))
            frames = (starts[:, None] + MARGIN) * ratio + torch.arange(CROP, device=clean.device)
            mono = latents.audio[rows[:, None], frames].float() / 32767
            audio = (mono * self._gains[rows][sides][:, None])[:, None]
        decoded = self._decoder(pieces)[..., MARGIN * ratio : -MARGIN * ratio]
        found: dict[str, Tensor] = self._reconstruction(decoded, audio, 10**LATE_FLOOR)
        # Noise cannot come back as the wave that it was.
        return found | {"loss": 0.5 * LATE_WAVE * found["wave"] + LATE_SPECTRUM * (found["stft"] + found["mel"])}
