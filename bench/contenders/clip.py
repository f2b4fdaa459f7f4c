"""Makes one clip with the networks of a contender. Needs NumPy alone, because it runs in every contender's environment.

A contender is a program `python -m bench.contenders.NAME FOLDER VARIANT THREADS STEPS`. It makes one clip from the inputs that
`bench.prepare` wrote. Its last line of output is JSON: the seconds of each stage, and the peak of resident memory in bytes.
Each network is loaded before it is used, and dropped after that.
"""

from __future__ import annotations

import functools
import gc
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
T = TypeVar("T")


Network = Callable[..., Array]
"""A network: arrays to an array."""


class Loader(Protocol):
    """Loads a network."""

    def __call__(self, folder: Path, variant: str, threads: int) -> Network:
        """Load the network.

        Args:
            folder: What `bench.prepare` wrote.
            variant: Precision or mode of the contender.
            threads: Threads of each run.
        """


def main(dit: Loader, decoder: Loader, text_encoder: Loader | None = None) -> None:
    """Make the clip that the command line describes, and print the measurements.

    Args:
        dit: Loads the DiT: latents, times, cross-attention tokens and global condition to a velocity.
        decoder: Loads the decoder: latents to audio.
        text_encoder: Loads the text encoder: token ids and mask to embeddings. None if the contender has none.
    """
    folder, variant, threads, steps = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    clock = Clock()
    with np.load(folder / "inputs.npz") as archive:
        inputs = dict(archive)
    if text_encoder is not None:
        encode = clock.measure("load", lambda: text_encoder(folder, variant, threads))
        clock.measure("conditioning", lambda: encode(inputs["input_ids"], inputs["attention_mask"]))
        del encode
        gc.collect()
    network = clock.measure("load", lambda: dit(folder, variant, threads))
    latents = _sample(network, inputs, steps, clock)
    del network
    gc.collect()
    decode = clock.measure("load", lambda: decoder(folder, variant, threads))
    samples = clock.measure("decoding", lambda: decode(latents))
    clock.report(folder, f"{Path(sys.argv[0]).stem}-{variant}", latents=latents[0], samples=samples[0])


def _sample(network: Network, inputs: dict[str, Array], steps: int, clock: Clock) -> Array:
    """Ping-pong sampling of a whole window, with the noise that the reference draws for the seed."""
    x, *noise = inputs["noise"]
    sigmas = 1 / (1 + np.exp(np.linspace(-6, 2, steps + 1)))
    sigmas[0], sigmas[-1] = 1, 0
    sigmas = sigmas.astype(np.float32)
    for i in range(steps):
        sigma, next_sigma = sigmas[i], sigmas[i + 1]
        conditioning = inputs["cross_attention"], inputs["global_condition"]
        velocity = clock.measure("sampling", functools.partial(network, x, np.array([sigma]), *conditioning))
        x = (1 - next_sigma) * (x - sigma * velocity) + next_sigma * noise[i]
    return np.asarray(x)


class Clock:
    """Adds up the seconds of each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def measure(self, stage: str, work: Callable[[], T]) -> T:
        """Call a function, add its time to a stage, and return its result."""
        began = time.perf_counter()
        result = work()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - began
        return result

    def report(self, folder: Path, name: str, **arrays: Array) -> None:
        """Print the measurements, and write arrays to a file.

        Args:
            folder: Folder for the file.
            name: Name of the file without suffix.
            **arrays: What was computed.
        """
        np.savez(folder / f"{name}.npz", **arrays)  # type: ignore[arg-type]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"seconds": self.seconds, "peak_memory": peak}))
