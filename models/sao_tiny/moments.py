"""What the latents of a sound are on average, and how far from it: all that the transformer is taught of the sound.

A sound is rendered in several takes, which differ in their noise. Where takes agree, as those of a held tone do, there is one
answer to a prompt; where they do not, any noise of the right size is as good as another.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.sao_tiny.data import training_sound
from models.sao_tiny.loop import fused
from models.sao_tiny.requests import render
from sao_onnx_convert.networks.autoencoder import Autoencoder

TAKES = 3
_SHRINK = math.sqrt(2 / (TAKES - 1)) * math.gamma(TAKES / 2) / math.gamma((TAKES - 1) / 2)
"""What the standard deviation of so few takes is of the true one on average, if they are normally distributed."""

_PART = 200  # sounds a file

Array = np.ndarray[Any, np.dtype[np.float16]]


def moments(
    one: Autoencoder, folder: Path, first: int, count: int, device: torch.device, say: Callable[[str], None]
) -> tuple[Array, Array]:
    """Mean and standard deviation of the latents of training sounds, made once.

    Args:
        one: The autoencoder of one channel.
        folder: Where they are kept, `_PART` sounds a file.
        first: Number of the first sound.
        count: How many, a multiple of `_PART`.
        device: To encode on.
        say: Told of the progress.

    Returns:
        Both float16 [count, 2, channels, n], for left and right.
    """
    folder = folder / "moments"
    folder.mkdir(exist_ok=True)
    encode = fused(one.encode)
    parts = []
    with ProcessPoolExecutor() as workers:
        for start in range(first, first + count, _PART):
            path = folder / f"{start}.npy"
            if not path.is_file():
                takes = workers.map(_takes, range(start, start + _PART), chunksize=5)
                found = np.stack([_moments(encode, audio, device) for audio in takes], axis=1)
                with path.with_suffix(".part").open("wb") as file:
                    np.save(file, found)
                path.with_suffix(".part").replace(path)
                say(f"encoded {start - first + _PART} of {count} sounds")
            parts.append(np.load(path))
    mean, deviation = np.concatenate(parts, axis=1)
    return mean, deviation


def _takes(index: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Takes of a sound that differ, [takes, channels that differ, frames]."""
    audio = []
    for take in range(TAKES):
        rng, sound = training_sound(index)
        stereo = render(rng, sound, take)
        audio.append(stereo if sound.side else stereo[:1])
        if take == 1 and np.array_equal(audio[0], audio[1]):
            return audio[0][None]
    return np.stack(audio)


@torch.no_grad()
def _moments(encode: Any, audio: np.ndarray[Any, np.dtype[np.float32]], device: torch.device) -> Array:
    """Mean and deviation of the latents of the takes of one sound, [2, 2, channels, n]."""
    rows = [torch.from_numpy(channel)[None, None].to(device) for take in audio for channel in take]
    with torch.autocast(device.type, torch.bfloat16):
        latents = torch.cat([encode(row)[0].float() for row in rows])
    latents = latents.view(*audio.shape[:2], *latents.shape[1:])
    mean = latents.mean(0)
    deviation = latents.std(0) / _SHRINK if len(latents) > 1 else torch.zeros_like(mean)
    found = torch.stack([mean, deviation])
    return np.asarray(found.expand(-1, 2, -1, -1).cpu().numpy(), np.float16)
