"""Trains the diffusion transformer and the embedding of the length on latents of sounds; then the decoder on what it makes."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from models.sao_tiny.autoencoder import CROP, LATE_FLOOR, LATE_SPECTRUM, LATE_WAVE, optimizers
from models.sao_tiny.data import Order
from models.sao_tiny.latents import Latents
from models.sao_tiny.loop import Schedule, fit
from models.sao_tiny.optimizers import Muon, adamw
from models.sao_tiny.reconstruction import Reconstruction
from models.sao_tiny.requests import WINDOW, Sound
from models.sao_tiny.signals import REPEAT, SAMPLE_RATE
from models.sao_tiny.text import Reader
from sao_onnx_convert.config import ModelConfig
from sao_onnx_convert.networks.autoencoder import Autoencoder
from sao_onnx_convert.networks.conditioners import NumberConditioner
from sao_onnx_convert.networks.dit import DiffusionTransformer

ORDER = Order(first=1_000_000, count=16_000, takes=3, prompts=6)
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

QUIETEST = 0.01
"""Power of latents below which no sound is taken to be."""

LENGTH_WAVES = 6.0
"""Standard deviation of the frequencies by which the length is told, in periods over its range."""

STEADY = Schedule(steps=4000, seconds=45, warmup=50)
STEADY_BATCH = 24
MARGIN = 8
"""Latents on each side of an excerpt that the decoder sees and that are not compared."""


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
        return x - t[:, None, None, None] * velocity.float().view_as(x)


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
    fit("diffusion", folder, model, _optimizers(model), SCHEDULE, _Denoising(model, examples), say)
    model.eval().requires_grad_(False)


class _Denoising:
    """Noisy latents of sounds, and the clean ones."""

    def __init__(self, model: Denoiser, examples: Examples) -> None:
        self._model, self._examples = model, examples

    def phase(self, progress: float) -> int:
        return int(progress >= POLISH)

    def draw(self, step: int, progress: float) -> dict[str, Tensor]:
        if step % 20 == 0:
            self._examples.grow()
        levels = noise_levels(BATCH, PURE_NOISE_LATE if self.phase(progress) else PURE_NOISE)
        return self._examples.draw(np.random.default_rng((2, step)), BATCH) | {"t": levels.to(self._examples.device)}

    def losses(self, phase: int, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        latents, t = self._examples.latents, batch["t"]
        conditioning = self._examples.conditioning(batch)
        mean, deviation = latents.mean[batch["rows"]].float(), latents.deviation[batch["rows"]].float()
        noise = torch.randn_like(mean)
        noisy = blended(mean, deviation, noise, t)
        if phase == 1:
            # Of every other sound that is not pure noise, what sampling would meet there.
            own = slice(round(PURE_NOISE_LATE * BATCH), BATCH, 2)
            ours, theirs = _own(self._model, mean[own], deviation[own], noise[own], t[own], [c[own] for c in conditioning])
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
    for block in transformer.layers:
        for linear in (block.self_attn.to_out, block.cross_attn.to_out, block.ff.ff[2]):
            linear.weight.mul_((2 * len(transformer.layers)) ** -0.5)
    for convolution in (dit.preprocess_conv, dit.postprocess_conv):
        convolution.weight.zero_()


@torch.no_grad()
def _own(
    model: Denoiser, mean: Tensor, deviation: Tensor, noise: Tensor, t: Tensor, conditioning: list[Tensor]
) -> tuple[Tensor, Tensor]:
    """Noisy latents as ping-pong sampling meets them, from the model's estimate one step before; and the noise in them."""
    before = torch.where(t > 0.9, 1.0, torch.sigmoid(torch.logit(t.clamp(max=0.99)) + 1.1))
    guess = model.denoised(blended(mean, deviation, noise, before), before, *conditioning)
    fresh = torch.randn_like(noise)
    level = t[:, None, None, None]
    along = (1 - level) * deviation.norm(dim=1, keepdim=True) * _common(deviation, noise)[1]
    direction, fresh_along = _common(deviation, fresh)
    # What both noises are together along the deviations, in units of its size; across them it is the fresh noise.
    total = (along + level * fresh_along) / _size(deviation, level)
    return (1 - level) * guess + level * fresh, fresh + (total - fresh_along) * direction


def blended(mean: Tensor, deviation: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """Noisy latents at levels t [b] whose clean ones are `expressed(mean, deviation, noise)`.

    Rectified flow draws clean latents and noise apart from each other, and learns their average: noise as such is silence
    then, and eight steps never leave it. Here the noise that a sound is made of is the noise that the sampler begins with.
    Latents are taken as normally distributed, with this mean and deviation, so that noisy latents and the clean ones at the
    end of their path are the same multiple of deviations from their means: the consistency function of Song et al.,
    "Consistency models" (2023), in closed form. Both channels of a sound have their noise in common, which is the noise along
    the direction of their deviations; across it there is none in the sound.

    Args:
        mean: Of the clean latents, [b, 2, channels, n].
        deviation: The same.
        noise: Of variance 1, the same.
        t: Levels, above 0.
    """
    direction, along = _common(deviation, noise)
    t = t[:, None, None, None]
    return (1 - t) * mean + t * noise + (_size(deviation, t) - t) * along * direction


def expressed(mean: Tensor, deviation: Tensor, noise: Tensor) -> Tensor:
    """The clean latents of a sound whose noise is `noise`, all [b, 2, channels, n]."""
    return mean + _common(deviation, noise)[1] * deviation


def _common(deviation: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """The direction of the deviations of both channels, and the noise along it, [b, 1, channels, n]."""
    direction = deviation / deviation.norm(dim=1, keepdim=True).clamp(min=1e-6)
    return direction, (direction * noise).sum(1, keepdim=True)


def _size(deviation: Tensor, t: Tensor) -> Tensor:
    """Standard deviation of noisy latents along the direction of the deviations."""
    return ((1 - t).square() * deviation.square().sum(1, keepdim=True) + t.square()).sqrt()


def power(mean: Tensor, deviation: Tensor) -> Tensor:
    """Of latents with this mean and deviation [b, 2, channels, n]: [b].

    Errors are counted in units of it. A held tone fills the window and a hi-hat a fiftieth; as they are, nothing but tones
    would be learned.
    """
    return (mean.square() + deviation.square()).mean((1, 2, 3)).clamp(min=QUIETEST)


def noise_levels(count: int, share: float) -> Tensor:
    """Levels to train at [count]: first a share of pure noise, then, in any order, evenly spread in log-SNR beyond what eight steps visit."""
    pure = round(share * count)
    places = (torch.arange(count - pure) + torch.rand(count - pure)) / (count - pure)
    return torch.cat([torch.ones(pure), torch.sigmoid(6.0 - 8.5 * places)[torch.randperm(count - pure)]])


def steady(
    model: Autoencoder, denoiser: Denoiser, examples: Examples, folder: Path, say: Callable[[str], None]
) -> None:
    """Train the decoder of one channel, in place, to decode what the transformer makes of noisy latents of a sound.

    So its errors do not come out as noise. The encoder stays as it is, and so do latents; a third of a batch is their own.
    """
    decoder = model.decoder.requires_grad_(True).train()
    fit("decoder", folder, decoder, optimizers(decoder), STEADY, _Decoding(decoder, denoiser, examples), say)
    decoder.eval().requires_grad_(False)


class _Decoding:
    """What the transformer makes of noisy latents, and the audio that it should be."""

    def __init__(self, decoder: nn.Module, denoiser: Denoiser, examples: Examples) -> None:
        self._decoder, self._denoiser, self._examples = decoder, denoiser, examples
        examples.grow()
        self._ratio = WINDOW // examples.latents.first.shape[3]
        self._gains = torch.from_numpy(examples.latents.gains).to(examples.device)
        self._reconstruction = Reconstruction().to(examples.device)
        self._t = torch.tensor([0.02, 0.27, 0.27, 0.27, 0.5, 0.27], device=examples.device).repeat(STEADY_BATCH)[:STEADY_BATCH]
        self._exact = torch.arange(STEADY_BATCH, device=examples.device)[:, None, None, None] % 3 == 0

    def phase(self, progress: float) -> int:
        return 0

    def draw(self, step: int, progress: float) -> dict[str, Tensor]:
        rng = np.random.default_rng((3, step))
        batch = self._examples.draw(rng, STEADY_BATCH)
        last = WINDOW // self._ratio - CROP // self._ratio - 2 * MARGIN
        drawn = {"starts": rng.integers(0, last + 1, size=STEADY_BATCH), "sides": rng.integers(0, 2, size=STEADY_BATCH)}
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
            sides = torch.arange(STEADY_BATCH, device=clean.device), batch["sides"]
            guess = guess[sides]
            pieces = guess.gather(2, places[:, None].expand(-1, guess.shape[1], -1))
            frames = (starts[:, None] + MARGIN) * ratio + torch.arange(CROP, device=clean.device)
            mono = latents.audio[rows[:, None], frames].float() / 32767
            audio = (mono * self._gains[rows][sides][:, None])[:, None]
        decoded = self._decoder(pieces)[..., MARGIN * ratio : -MARGIN * ratio]
        found: dict[str, Tensor] = self._reconstruction(decoded, audio, 10**LATE_FLOOR)
        # Noise cannot come back as the wave that it was.
        return found | {"loss": 0.5 * LATE_WAVE * found["wave"] + LATE_SPECTRUM * (found["stft"] + found["mel"])}
