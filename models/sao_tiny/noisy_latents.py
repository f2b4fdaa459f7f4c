"""Noisy latents to learn from, and the clean ones that they stand for.

Rectified flow draws clean latents and noise apart from each other, and learns their average: of noise as such that is silence,
and eight steps never leave it. Here the noise that a sound is made of is the noise that the sampler begins with. Latents are
taken as normally distributed, with a mean and a deviation, so that noisy latents and the clean ones at the end of their path
are the same multiple of deviations from their means: the consistency function of Song et al., "Consistency models" (2023), in
closed form. Both channels of a sound have their noise in common, which is the noise along the direction of their deviations;
across it there is none in the sound.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

QUIETEST = 0.01
"""Power of latents below which no sound is taken to be."""


class Denoised(Protocol):
    """An estimate of clean latents."""

    def __call__(self, x: Tensor, t: Tensor, *conditioning: Tensor) -> Tensor:
        """Clean latents of noisy ones [b, 2, channels, n] at levels t [b]."""
        ...


def blended(mean: Tensor, deviation: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """Noisy latents at levels t [b] whose clean ones are `expressed(mean, deviation, noise)`.

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
    """Levels to train at, [count].

    First a share of pure noise, then, in any order, levels evenly spread in log-SNR, beyond what eight steps visit.
    """
    pure = round(share * count)
    places = (torch.arange(count - pure) + torch.rand(count - pure)) / (count - pure)
    return torch.cat([torch.ones(pure), torch.sigmoid(6.0 - 8.5 * places)[torch.randperm(count - pure)]])


@torch.no_grad()
def from_own_guess(
    denoised: Denoised, mean: Tensor, deviation: Tensor, noise: Tensor, t: Tensor, conditioning: list[Tensor]
) -> tuple[Tensor, Tensor]:
    """Noisy latents as ping-pong sampling meets them: the model's estimate one step before, with fresh noise.

    Args:
        denoised: The model: the estimate of clean latents.
        mean: Of the clean latents, [b, 2, channels, n].
        deviation: The same.
        noise: From which the clip began, of variance 1, the same.
        t: Levels [b] of the noisy latents that are asked for.
        conditioning: What `denoised` is given besides.

    Returns:
        The noisy latents, and the noise, both [b, 2, channels, n], so that the clean latents they stand for are `expressed` of
        that noise: what the two noises come to along the deviations; across them it is the fresh noise.
    """
    before = torch.where(t > 0.9, 1.0, torch.sigmoid(torch.logit(t.clamp(max=0.99)) + 1.1))
    guess = denoised(blended(mean, deviation, noise, before), before, *conditioning)
    fresh = torch.randn_like(noise)
    level = t[:, None, None, None]
    along = (1 - level) * deviation.norm(dim=1, keepdim=True) * _common(deviation, noise)[1]
    direction, fresh_along = _common(deviation, fresh)
    # In units of its standard deviation.
    total = (along + level * fresh_along) / _size(deviation, level)
    return (1 - level) * guess + level * fresh, fresh + (total - fresh_along) * direction
