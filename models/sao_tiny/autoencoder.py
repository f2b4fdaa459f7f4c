"""Trains the autoencoder of one channel: audio to latents and back."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from models.sao_tiny.data import Order, Pool, Rows
from models.sao_tiny.lapped import initialize
from models.sao_tiny.loop import Schedule, fit
from models.sao_tiny.optimizers import Muon, adamw
from models.sao_tiny.reconstruction import Reconstruction
from models.sao_tiny.requests import KINDS, WINDOW
from models.sao_tiny.sounds import LOOPS, TONES
from models.sao_tiny.stereo import mono
from sao_onnx_convert.family.stable_audio_open.networks.autoencoder import Autoencoder, SnakeBeta
from sao_onnx_convert.source.config import ModelConfig

ORDER = Order(first=0, count=24_000, evenly=True)
SHARES = (0.42, 0.13, 0.45)
"""Of tones, loops and all other kinds in a batch."""

GAINS = np.array([1.0, 1.0, 0.12])
"""Of the excerpts: a third as the quieter channel of a sound that stands on one side."""

BATCH = 20
EXAMPLES = 128
"""Excerpts from which the first weights and the size of the latents are taken."""

CROP = 64 * 512
SCHEDULE = Schedule(steps=12_000, seconds=230, warmup=50, decay=0.7)
RATE, MATRIX_RATE = 1e-3, 1.5e-3
KL_WEIGHT = 0.01

SPECTRUM_FROM, SPECTRUM_AT = 0.1, 0.3
"""Progress between which the spectrum comes to count as much as the waveform."""

EARLY_FLOOR, LATE_FLOOR = -5.5, -7.5
"""Powers of ten below which a spectrum is silence, at first and in the end."""

EARLY_WAVE, LATE_WAVE = 2.0, 0.7
EARLY_SPECTRUM, LATE_SPECTRUM = 0.3, 0.6
"""What the waveform and the spectrum count."""

LATENT_SIZE = 2.0
"""Root mean square of every channel. With 1, drums would drown in noise at most of the eight levels of sampling."""


class Excerpts:
    """Draws batches of excerpts from a pool of sounds."""

    def __init__(self, pool: Pool, device: torch.device) -> None:
        self._pool, self._device = pool, device
        self._audio = Rows(pool.audio, device)
        kinds = [KINDS[index % len(KINDS)] for index in range(pool.order.count)]
        families = np.array([0 if kind in TONES else 1 if kind in LOOPS else 2 for kind in kinds])
        self._shares = (np.array(SHARES) / np.bincount(families, minlength=3))[families]

    def grow(self, at_least: int = 0) -> None:
        """Take over what has become ready."""
        self._audio.grow(self._pool.ready(at_least))

    def draw(self, seed: int, count: int) -> Tensor:
        """Excerpts, float32 [count, 1, CROP]: most from where there is sound, with its start and end."""
        rng = np.random.default_rng(seed)
        ready = self._audio.count
        shares = self._shares[:ready]
        rows = rng.choice(ready, size=count, p=shares / shares.sum())
        ends = np.minimum(WINDOW, self._pool.ends[rows] + CROP // 2) - CROP // 4
        starts = np.where(rng.random(count) < 0.75, rng.random(count) * np.maximum(1, ends), 0).astype(np.int64)
        starts = np.minimum(starts, WINDOW - CROP)
        gains = GAINS[rng.integers(len(GAINS), size=count)] * rng.uniform(0.5, 1.0, count) / 32767
        places = torch.from_numpy(rows * WINDOW + starts).to(self._device)[:, None] + torch.arange(CROP, device=self._device)
        found = self._audio.data.view(-1)[places].float()
        return (found * torch.from_numpy(gains.astype(np.float32)).to(self._device)[:, None])[:, None]


def untrained(config: ModelConfig) -> Autoencoder:
    """The network of one channel, with any weights."""
    torch.manual_seed(0)
    return mono(config.model.pretransform.config)


def train(
    model: Autoencoder, strides: tuple[int, ...], pool: Pool, folder: Path, device: torch.device, say: Callable[[str], None]
) -> None:
    """Train it in place, or finish a training that was cut off.

    Args:
        model: Of any weights.
        strides: Of its encoder.
        pool: Sounds, evenly of all kinds.
        folder: For the state and the curve.
        device: Where to.
        say: Told of the progress.
    """
    excerpts = Excerpts(pool, device)
    excerpts.grow(at_least=2000)
    examples = excerpts.draw(seed=1 << 40, count=EXAMPLES)
    initialize(model, examples.cpu(), strides)
    model.to(device)
    compile_activations(model)
    fit("autoencoder", folder, model, optimizers(model), SCHEDULE, _Coding(model, excerpts, device), say)
    model.eval().requires_grad_(False)
    standardize(model, examples)


class _Coding:
    """Audio to latents, with the noise of the bottleneck, and back."""

    def __init__(self, model: Autoencoder, excerpts: Excerpts, device: torch.device) -> None:
        self._model, self._excerpts, self._device = model, excerpts, device
        self._reconstruction = Reconstruction().to(device)

    def phase(self, progress: float) -> int:
        return 0

    def draw(self, step: int, progress: float) -> dict[str, Tensor]:
        if step % 50 == 0:
            self._excerpts.grow()
        late = min(1.0, max(0.0, (progress - SPECTRUM_FROM) / (SPECTRUM_AT - SPECTRUM_FROM)))
        # What is too quiet to matter at first would rule the gradient: there is much silence.
        floor = 10 ** (EARLY_FLOOR + (LATE_FLOOR - EARLY_FLOOR) * late)
        # First the waveform, which tells the encoder what to keep. The spectrum alone would rather have silence than a wave in
        # the wrong phase; in the end it brings noise to its level.
        wave = EARLY_WAVE + (LATE_WAVE - EARLY_WAVE) * late
        spectrum = EARLY_SPECTRUM + (LATE_SPECTRUM - EARLY_SPECTRUM) * late
        weights = torch.tensor([floor, wave, spectrum]).to(self._device, non_blocking=True)
        return {"audio": self._excerpts.draw(step, BATCH), "weights": weights}

    def losses(self, phase: int, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        floor, wave, spectrum = batch["weights"]
        mean, stdev = self._model.encode(batch["audio"])
        decoded = self._model.decoder(mean + stdev * torch.randn_like(mean))
        divergence = 0.5 * (mean.square() + stdev.square() - 1 - 2 * stdev.log()).mean()
        found: dict[str, Tensor] = self._reconstruction(decoded, batch["audio"], floor)
        loss = wave * found["wave"] + spectrum * (found["stft"] + found["mel"]) + KL_WEIGHT * divergence
        return found | {"kl": divergence, "loss": loss}


def optimizers(model: nn.Module) -> list[torch.optim.Optimizer]:
    """Muon for the weights of convolutions, AdamW for all else."""
    matrices = [p for name, p in model.named_parameters() if name.endswith("weight_v")]
    others = [p for name, p in model.named_parameters() if not name.endswith("weight_v")]
    return [Muon(matrices, lr=MATRIX_RATE), adamw(others, lr=RATE)]


def compile_activations(model: nn.Module) -> None:
    """Let every Snake run as one kernel: forward and backward, most of the time goes into moving its intermediate results."""
    for module in model.modules():
        if isinstance(module, SnakeBeta):
            module.forward = functools.partial(_snake, module)  # type: ignore[method-assign]


def _snake(module: SnakeBeta, x: Tensor) -> Tensor:
    # Not as parameters, whose sizes would be compiled in.
    return cast(Tensor, _compiled_snake(x, module.alpha.exp()[:, None], module.beta.exp()[:, None]))


@functools.partial(torch.compile, dynamic=True)
def _compiled_snake(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    return x + (1.0 / (beta + 1e-9)) * torch.sin(x * alpha).square()


@torch.no_grad()
def standardize(model: Autoencoder, audio: Tensor) -> None:
    """Give every latent channel the root mean square `LATENT_SIZE` on `audio`, which the noise levels of diffusion count on.

    Counted with the noise of the bottleneck: a channel that says nothing is all noise, and must not be blown up.
    The last convolution of the encoder is scaled and the first one of the decoder the other way. The deviation is a softplus,
    nearly an exponential where it is small, so that its bias takes a logarithm.
    """
    mean, stdev = model.encode(audio)
    size = (mean.square() + stdev.square()).mean((0, 2)).sqrt() / LATENT_SIZE
    count = len(size)
    last, first = cast(Any, model.encoder.layers[-1]), cast(Any, model.decoder.layers[0])
    last.weight_g[:count] /= size[:, None, None]
    last.bias[:count] /= size
    last.bias[count:] -= size.log()
    weight = first.weight * size[:, None]
    first.weight_v.copy_(weight)
    first.weight_g.copy_(weight.flatten(1).norm(dim=1)[:, None, None])
