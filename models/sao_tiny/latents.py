"""What the trained autoencoder makes of training sounds: their latents, and how much of them is noise.

What a sound is on average, and how far its noise takes it from there, is measured from takes that differ in their noise alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.sao_tiny import noise_bases
from models.sao_tiny.data import Pool, Rows
from sao_onnx_convert.family.stable_audio_open.networks.autoencoder import Autoencoder


def shrinkage(takes: int) -> float:
    """What the standard deviation of so few normally distributed values is, on average, of the true one."""
    return math.sqrt(2 / (takes - 1)) * math.gamma(takes / 2) / math.gamma((takes - 1) / 2)


class Latents:
    """Latents of the sounds of a pool, on the device, as they become ready. Those of the left channel come first.

    Attributes:
        count: How many sounds there are so far.
        mean: Over the takes, float16 [count, 2, channels, n], along the directions of `bases`.
        deviation: Of the takes, the same.
        first: Of the first take, the same, as it is.
        bases: Directions of noise, orthogonal matrices [bases, channels, channels]: `noise_bases`.
        basis_of: Which of them is a sound's, [count].
    """

    def __init__(self, autoencoder: Autoencoder, pool: Pool, channels: int, n: int, device: torch.device) -> None:
        """`autoencoder` is that of one channel, with so many `channels`."""
        self._autoencoder, self._pool, self._device = autoencoder, pool, device
        shape = (pool.order.count, 2, channels, n)
        self.mean, self.deviation, self.first = (torch.zeros(shape, dtype=torch.float16, device=device) for _ in range(3))
        self._audio = Rows(pool.audio[:, 0], device)
        self._ids = Rows(pool.ids, device)
        self.count = 0
        self.bases = torch.eye(channels, device=device)[None]
        self.basis_of = torch.zeros(pool.order.count, dtype=torch.long, device=device)

    def find_bases(self, kinds: Sequence[str], at_least: int) -> None:
        """Take noise along directions of its own from now on.

        Args:
            kinds: Of all sounds of the pool.
            at_least: How many of them to find the directions from.
        """
        ready = self._pool.ready(at_least)
        self.bases = noise_bases.find(self._means, self._pool, kinds[:ready], self.bases.shape[1], self._device)
        self.basis_of = torch.tensor([noise_bases.basis_of(kind) for kind in kinds], device=self._device)

    @property
    def audio(self) -> Tensor:
        """First takes before their gains, int16 [count, WINDOW]."""
        return self._audio.data

    @property
    def gains(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Of the left and right channel, float32 [count, 2]."""
        return self._pool.gains

    @property
    def ids(self) -> Tensor:
        """Token ids of the prompts, int32 [count, prompts, tokens]."""
        return self._ids.data

    @torch.no_grad()
    def grow(self, at_least: int = 0) -> None:
        """Encode what has become ready."""
        ready = self._pool.ready(at_least)
        self._audio.grow(ready)
        self._ids.grow(ready)
        for start in range(self.count, ready, 16):
            self._encode(np.arange(start, min(start + 16, ready)))
        self.count = ready

    def _encode(self, rows: np.ndarray[Any, np.dtype[np.int64]]) -> None:
        places, pieces, gains = [], [], []
        for row in rows:
            left, right = self._pool.gains[row]
            for side, gain in enumerate([left] if left == right else [left, right]):
                places.append((row, side, self._pool.varied[row]))
                pieces.append(self._pool.audio[row, : self._pool.varied[row]])
                gains.append(np.full(self._pool.varied[row], gain / 32767, np.float32))
        audio = torch.from_numpy(np.concatenate(pieces)).to(self._device).float()
        audio *= torch.from_numpy(np.concatenate(gains)).to(self._device)[:, None]
        found = torch.cat([self._means(batch) for batch in torch.split(audio[:, None], 16)])
        start = 0
        for row, side, takes in places:
            # What is alike on both sides is kept on both.
            self._keep(row, slice(side, None), found[start : start + takes])
            start += takes

    def _keep(self, row: int, sides: slice, takes: Tensor) -> None:
        self.first[row, sides] = takes[0]
        takes = self.bases[self.basis_of[row]].T @ takes
        self.mean[row, sides] = takes.mean(0)
        if len(takes) > 1:
            self.deviation[row, sides] = takes.std(0) / shrinkage(len(takes))

    @torch.no_grad()
    def _means(self, audio: Tensor) -> Tensor:
        with torch.autocast(self._device.type, torch.float16, enabled=self._device.type == "cuda"):
            return self._autoencoder.encode(audio)[0].float()
