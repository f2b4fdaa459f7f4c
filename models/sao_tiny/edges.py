"""Trains the decoder's last block at the edges of the window, where its convolutions see zeros instead of sound.

The decoder is trained on excerpts, whose edges are not compared. Left at that, it clicks at the last millisecond of the window,
40 dB below a clip's peak.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from models.sao_tiny.data import training_sound
from models.sao_tiny.requests import KINDS, render
from sao_onnx_convert.networks.autoencoder import Autoencoder, DecoderBlock

SOUNDS, FIRST = 150, 3_000_000
"""How many sounds, and the number of the first: others than any stage has learned from."""

RATIO = 512
"""Frames a latent."""

CODED, SEEN, KEPT = 32, 20, 8
"""Latents at an edge: those that are encoded, those of them that the decoder gets, and those that are compared."""

EDGE = 96
"""Frames that should come out as the audio is. The others should stay as they were."""

LATENT_NOISE = 0.1
"""The highest standard deviation of noise on latents: the transformer's are not exact."""

STEPS, BATCH, RATE = 300, 16, 1e-3


def train(model: Autoencoder, say: Callable[[str], None]) -> None:
    """Train the last block of the decoder of one channel, in place.

    Args:
        model: Trained; its decoder does not see the edges as sound.
        say: Told of the progress.
    """
    device = next(model.parameters()).device
    layers = list(model.decoder.layers)
    last_block = max(index for index, layer in enumerate(layers) if isinstance(layer, DecoderBlock))
    front, back = nn.Sequential(*layers[:last_block]), nn.Sequential(*layers[last_block:])
    features, audio, at_end = _excerpts(model, front, device)
    before = copy.deepcopy(back)
    with torch.no_grad():
        decoded = torch.cat([before(part)[:, 0] for part in torch.split(features, BATCH)])
    edge = _edges(at_end, audio.shape[1])
    target = torch.where(edge, audio, decoded)
    back.requires_grad_(True)
    optimizer = torch.optim.Adam(back.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS, pct_start=0.1)
    rng = np.random.default_rng(0)
    for step in range(STEPS):
        rows = torch.from_numpy(rng.integers(len(features), size=BATCH)).to(device)
        wrong = (back(features[rows])[:, 0] - target[rows]).square()
        loss = losses(wrong, edge[rows], audio[rows], decoded[rows])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(back.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if (step + 1) % 100 == 0:
            say(f"edges {step + 1} of {STEPS}: {loss.item():.3f}")
    back.requires_grad_(False)


def losses(wrong: Tensor, edge: Tensor, audio: Tensor, decoded: Tensor) -> Tensor:
    """How far excerpts are from what they should be: logarithms, so that silence counts as much as sound.

    Args:
        wrong: Squared error of each frame, [b, frames].
        edge: Where the edge is, the same.
        audio: What was encoded, the same.
        decoded: What the decoder made of it before, the same.
    """
    at_edge = (wrong * edge).sum(1) / EDGE
    loud = (audio.square() * edge).sum(1) / EDGE
    inside = wrong.mean(1) / (1e-3 * decoded.square().mean(1) + 1e-8)
    return (at_edge / (0.05 * loud + 3e-8)).log1p().mean() + 3 * inside.log1p().mean()


def _edges(at_end: Tensor, frames: int) -> Tensor:
    """Where the edge of each excerpt is, [n, frames]."""
    places = torch.arange(frames, device=at_end.device)
    return torch.where(at_end[:, None], places >= frames - EDGE, places < EDGE)


@torch.no_grad()
def _excerpts(model: Autoencoder, front: nn.Module, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """What the last block gets of the starts and ends of sounds, the audio [n, frames], and which of them are ends [n]."""
    features, audio = [], []
    random = torch.Generator().manual_seed(0)
    for index in range(SOUNDS):
        rng, sound = training_sound(FIRST + index, KINDS[index % len(KINDS)])
        channel = torch.from_numpy(render(rng, sound)[1 if sound.side == "right" else 0]).to(device)
        for at_end in (False, True):
            coded, seen, kept = (slice(-n, None) if at_end else slice(n) for n in (CODED * RATIO, SEEN, KEPT * RATIO))
            latents = model.encode(channel[coded][None, None])[0][..., seen]
            noise = torch.randn(latents.shape, generator=random) * torch.rand(1, generator=random) * LATENT_NOISE
            found = front(latents + noise.to(device))
            count = found.shape[-1] * KEPT // SEEN
            features.append(found[..., -count:] if at_end else found[..., :count])
            audio.append(channel[kept])
    ends = torch.arange(2 * SOUNDS, device=device) % 2 == 1
    return torch.cat(features), torch.stack(audio), ends
