"""Training sounds by number, nameless tones among them; a pool of them that processes render while training already runs."""

from __future__ import annotations

import mmap
import multiprocessing
import os
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from models.sao_tiny import nameless
from models.sao_tiny.requests import GAINS, KINDS, WINDOW, Sound, describe, draw, render
from models.sao_tiny.sounds import ENDING, TONES, Voice

Audio = np.ndarray[Any, np.dtype[np.float32]]

MAX_TOKENS = 32
"""Of a prompt; longer ones are cut."""


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


@dataclass(frozen=True)
class Order:
    """Which sounds a pool is to hold.

    Attributes:
        first: Number of the first sound.
        count: How many sounds.
        takes: How often each is rendered, with other noise each time; those without noise are rendered once.
        evenly: All kinds equally often, instead of as often as `draw` does.
        prompts: How many prompts for each.
        nameless: Each sound whose place is a multiple of it is a nameless tone; 0 for none.
    """

    first: int
    count: int
    takes: int = 1
    evenly: bool = False
    prompts: int = 0
    nameless: int = 0

    def is_nameless(self, index: int) -> bool:
        """Whether a nameless tone is at a place of the pool."""
        return self.nameless > 0 and index % self.nameless == 0

    def numbers(self, index: int) -> np.ndarray[Any, np.dtype[np.float32]]:
        """The numbers of the nameless tone at a place of the pool."""
        return nameless.numbers(np.random.default_rng((4, self.first + index)))

    def sound(self, index: int) -> tuple[np.random.Generator, Sound]:
        """The sound at a place of the pool; of a nameless tone, the one that it comes from."""
        if self.is_nameless(index):
            return training_sound(self.first + index, TONES[index // self.nameless % len(TONES)])
        return training_sound(self.first + index, KINDS[index % len(KINDS)] if self.evenly else None)


class Pool:
    """Sounds that become ready one after the other, in memory that the rendering processes share.

    Both channels of a sound are one signal at two gains, so one is kept.

    Attributes:
        order: What it holds in the end.
        audio: int16 [count, takes, WINDOW], full scale 32767.
        gains: Of the left and right channel, float32 [count, 2].
        ends: Frames until the last sound, int32 [count].
        varied: How many takes there are, int32 [count]: 1 or `takes`.
        ids: Token ids of prompts, zeros behind each, int32 [count, prompts, MAX_TOKENS].
    """

    def __init__(self, order: Order, tokenizer: Tokenizer | None = None) -> None:
        self.order = order
        self.audio = _shared(np.int16, order.count, order.takes, WINDOW)
        self.gains = _shared(np.float32, order.count, 2)
        self.ends = _shared(np.int32, order.count)
        self.varied = _shared(np.int32, order.count)
        self.ids = _shared(np.int32, order.count, max(1, order.prompts), MAX_TOKENS)
        self._tokenizer = tokenizer
        self.done = _shared(np.int64, 1)
        self._processes: list[multiprocessing.process.BaseProcess] = []

    def start(self, workers: int = 0) -> None:
        """Begin to render, before anything has touched a GPU: processes are forked.

        Args:
            workers: Processes; by default one for each processor.
        """
        workers = workers or len(os.sched_getaffinity(0))
        self.done = _shared(np.int64, workers)
        context = multiprocessing.get_context("fork")
        for worker in range(workers):
            process = context.Process(target=self._render_share, args=(worker, workers), daemon=True)
            process.start()
            self._processes.append(process)

    def _render_share(self, worker: int, workers: int) -> None:
        # The process that trains comes first.
        os.nice(10)
        for index in range(worker, self.order.count, workers):
            self.render(index)
            self.done[worker] += 1
        # Those who come last are ready too.
        self.done[worker] = self.order.count

    def render(self, index: int) -> None:
        """Render one sound into its place."""
        side = None
        for take in range(self.order.takes):
            rng, sound = self.order.sound(index)
            side = sound.side
            stereo = render(rng, sound, take, self._more(index, sound))
            mono = stereo[1 if side == "right" else 0]
            self.audio[index, take] = np.round(mono * 32767)
            self.varied[index] = take + 1
            if sound.note:
                # There is no noise in tones.
                break
            if take == 1 and np.array_equal(self.audio[index, 0], self.audio[index, 1]):
                self.varied[index] = 1
                break
        self.gains[index] = GAINS[side or ""]
        heard = np.flatnonzero(np.abs(self.audio[index, 0, ::256]) > 30)
        self.ends[index] = min(WINDOW, int(heard[-1]) * 256 + 256) if len(heard) else WINDOW
        if self._tokenizer and self.order.prompts:
            rng, sound = self.order.sound(index)
            prompts = [describe(rng, sound) for _ in range(self.order.prompts)]
            self.ids[index] = encode(self._tokenizer, prompts)

    def _more(self, index: int, sound: Sound) -> Voice | None:
        """What a nameless tone has besides the one that it comes from."""
        return nameless.partials(self.order.numbers(index), sound.kind in ENDING) if self.order.is_nameless(index) else None

    def ready(self, at_least: int = 0) -> int:
        """How many sounds are ready, from the first on; waits until there are `at_least` so many.

        Raises:
            RuntimeError: A process that renders has failed.
        """
        workers = len(self.done)
        while True:
            # The worker that has done d of the places w, w + n, ... goes on at w + d * n.
            found = min(self.order.count, *(int(done) * workers + worker for worker, done in enumerate(self.done)))
            if found >= min(at_least, self.order.count):
                return found
            if any(process.exitcode for process in self._processes):
                raise RuntimeError(f"a process that renders sounds has failed after {found} of {self.order.count}; see above")
            time.sleep(0.05)


def encode(tokenizer: Tokenizer, prompts: list[str]) -> np.ndarray[Any, np.dtype[np.int32]]:
    """Token ids, zeros behind each prompt: int32 [prompts, MAX_TOKENS]."""
    ids = np.zeros((len(prompts), MAX_TOKENS), np.int32)
    for row, prompt in zip(ids, prompts, strict=True):
        # One at a time: threads of the tokenizer would not survive the fork of a process.
        found = tokenizer.encode(prompt).ids[:MAX_TOKENS]
        row[: len(found)] = found
    return ids


def _shared(dtype: Any, *shape: int) -> np.ndarray[Any, np.dtype[Any]]:
    """Zeros that forked processes write to as well."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.frombuffer(mmap.mmap(-1, max(1, size)), dtype, int(np.prod(shape))).reshape(shape)


class Rows:
    """Rows of a growing array, copied to a device as they become ready."""

    def __init__(self, source: np.ndarray[Any, np.dtype[Any]], device: torch.device) -> None:
        self._source = source
        self.data: Tensor = (
            torch.from_numpy(source)
            if device.type == "cpu"
            else torch.empty(source.shape, dtype=torch.from_numpy(source[:0]).dtype, device=device)
        )
        self.count = 0

    def grow(self, ready: int) -> None:
        """Take over all rows up to `ready`."""
        if ready > self.count and self.data.device.type != "cpu":
            self.data[self.count : ready].copy_(torch.from_numpy(self._source[self.count : ready]))
        self.count = ready
