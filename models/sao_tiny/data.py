"""Sounds by the thousand, made once and kept in a file."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from models.sao_tiny.requests import KINDS, WINDOW, Sound, draw, render

Audio = np.ndarray[Any, np.dtype[np.float32]]


def training_sound(index: int, kind: str | None = None) -> tuple[np.random.Generator, Sound]:
    """The sound of this number that training may use, and the generator to go on with.

    Args:
        index: Any number; the same number is always the same sound.
        kind: Draw until it is of this kind.
    """
    return _sound((0, index), kind, held_out=False)


def unseen_sound(index: int, kind: str | None = None) -> tuple[np.random.Generator, Sound]:
    """The sound of this number among those that training never uses."""
    return _sound((1, index), kind, held_out=True)


def _sound(seed: tuple[int, int], kind: str | None, held_out: bool) -> tuple[np.random.Generator, Sound]:
    rng = np.random.default_rng(seed)
    while True:
        sound = draw(rng)
        if sound.held_out == held_out and (kind is None or sound.kind == kind):
            return rng, sound


def pool(folder: Path, count: int) -> np.ndarray[Any, np.dtype[np.int16]]:
    """`count` training sounds, all kinds equally often: int16 [count, 2, WINDOW], mapped from a file."""
    path = folder / f"sounds-{count}.npy"
    if not path.is_file():
        beside = path.with_suffix(".part")
        sounds = np.lib.format.open_memmap(beside, mode="w+", dtype=np.int16, shape=(count, 2, WINDOW))
        with ProcessPoolExecutor() as workers:
            for index, sound in enumerate(workers.map(_pooled, range(count), chunksize=16)):
                sounds[index] = sound
        sounds.flush()
        beside.replace(path)
    mapped: np.ndarray[Any, np.dtype[np.int16]] = np.load(path, mmap_mode="r")
    return mapped


def _pooled(index: int) -> np.ndarray[Any, np.dtype[np.int16]]:
    rng, sound = training_sound(index, KINDS[index % len(KINDS)])
    return np.round(render(rng, sound) * 32767).astype(np.int16)
