"""What a prompt asks for, as the numbers that the text encoder learns to tell and the transformer begins with.

A note, a tempo or a kind is a direction among `SUBJECT`: as far from each other as so many can be, so that a linear layer tells
any of them from all others. Which kind of tone or loop it is, and each adjective, has a number of its own.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor
from torch.nn import functional as F

from models.sao_tiny.requests import HIGHEST_NOTE, HIGHEST_TEMPO, KINDS, LOWEST_NOTE, LOWEST_TEMPO, Sound
from models.sao_tiny.sounds import LOOPS, TONES

SUBJECT = 48
LEFT, RIGHT = SUBJECT + len(TONES) + len(LOOPS) + 3, SUBJECT + len(TONES) + len(LOOPS) + 4
"""Which numbers say on which side a sound stands."""

NUMBERS = RIGHT + 2

_OTHERS = tuple(kind for kind in KINDS if kind not in TONES and kind not in LOOPS)
_SIGNS = {"": 0.0} | dict.fromkeys(("dark", "soft", "short"), -1.5) | dict.fromkeys(("bright", "loud", "long"), 1.5)


def numbers(sounds: list[Sound]) -> Tensor:
    """What is asked for, float32 [sounds, NUMBERS]; each number varies by about 1."""
    rows = []
    for sound in sounds:
        if sound.note:
            subject = directions(HIGHEST_NOTE - LOWEST_NOTE + 1)[sound.note - LOWEST_NOTE]
        elif sound.tempo:
            subject = directions(HIGHEST_TEMPO - LOWEST_TEMPO + 1)[sound.tempo - LOWEST_TEMPO]
        else:
            subject = directions(len(_OTHERS))[_OTHERS.index(sound.kind)]
        family = torch.tensor([float(sound.kind == kind) for kind in (*TONES, *LOOPS)])
        said = [_SIGNS[word] for word in (sound.tone, sound.level, sound.length)]
        said += [2.0 * (sound.side == "left"), 2.0 * (sound.side == "right"), 2.0 * sound.distant]
        rows.append(torch.cat([SUBJECT**0.5 * subject, 2.5 * family, torch.tensor(said)]))
    return torch.stack(rows)


@functools.cache
def directions(count: int) -> Tensor:
    """Unit vectors [count, SUBJECT] that push each other away until the nearest are as far apart as can be, about."""
    generator = torch.Generator().manual_seed(count)
    vectors = torch.randn(count, SUBJECT, generator=generator).requires_grad_()
    optimizer = torch.optim.Adam([vectors], lr=0.02)
    itself = torch.eye(count) * 2
    for step in range(600):
        unit = F.normalize(vectors, dim=1)
        nearness = torch.logsumexp((unit @ unit.T - itself) * (10 + step / 20), dim=(0, 1))
        optimizer.zero_grad()
        nearness.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return F.normalize(vectors.detach(), dim=1)
