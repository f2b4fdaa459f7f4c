"""Directions in which the noise of a kind of sound is independent from one to the next.

The channels of latents of noise go together: those of wind, an octave wide, are some twenty directions and not 128. Noise that
is drawn for each channel alone and made as strong as in each channel is noise of another colour: decoded, rain is taken for
white noise and wind for ocean waves. So deviations are measured along the principal directions of the noise of each kind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from models.sao_tiny.data import Pool
from models.sao_tiny.requests import KINDS
from models.sao_tiny.sounds import LOOPS, TONES

OWN = tuple(kind for kind in KINDS if kind not in TONES and kind not in LOOPS)
"""Kinds that have directions of their own, if they have noise; those of all others are the channels."""

EXAMPLES = 24
"""Sounds of a kind that its directions are found from, at most."""


def basis_of(kind: str) -> int:
    """The place of a kind's directions in `find`."""
    return 1 + OWN.index(kind) if kind in OWN else 0


def find(encode: Callable[[Tensor], Tensor], pool: Pool, kinds: Sequence[str], channels: int, device: torch.device) -> Tensor:
    """Orthogonal matrices [1 + OWN, channels, channels], whose columns are directions. The first is the identity.

    Args:
        encode: From audio [b, 1, frames] to latents [b, channels, n].
        pool: Of which some sounds are ready.
        kinds: Of the sounds that are ready, in order.
        channels: Of latents.
        device: Where `encode` computes.
    """
    sums = torch.zeros(1 + len(OWN), channels, channels, device=device, dtype=torch.float64)
    seen = np.zeros(1 + len(OWN), int)
    for row, kind in enumerate(kinds):
        place, takes = basis_of(kind), int(pool.varied[row])
        if place and takes > 1 and seen[place] < EXAMPLES:
            seen[place] += 1
            audio = torch.from_numpy(pool.audio[row, :takes]).to(device).float()[:, None] / 32767
            found = encode(audio).double()
            apart = (found - found.mean(0)).transpose(0, 1).flatten(1)
            # All sounds count the same, however long and loud they are.
            sums[place] += apart @ apart.T / apart.square().sum().clamp(min=1e-9)
    result = torch.eye(channels, device=device).repeat(len(sums), 1, 1)
    for place in np.flatnonzero(seen).tolist():
        result[place] = torch.linalg.eigh(sums[place].cpu())[1].to(device).float()
    return result
