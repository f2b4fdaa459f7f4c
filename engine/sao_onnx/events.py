"""What `Engine.stream` yields while it works."""

from __future__ import annotations

from dataclasses import dataclass

from sao_onnx.arrays import Array
from sao_onnx.clip import Clip


@dataclass(frozen=True, eq=False)
class Conditioned:
    """The prompt has been read, and sampling follows.

    Attributes:
        steps: Of sampling.
        window: From 0; more than one where a recording is extended.
        windows: How many there are.
    """

    steps: int
    window: int = 0
    windows: int = 1


@dataclass(frozen=True, eq=False)
class Sampled:
    """A step of sampling is done.

    Attributes:
        index: From 0.
        steps: How many there are.
        latents: After the step, float32 [latent channels, n].
        denoised: The estimate of the clean latents, float32 [latent channels, n].
    """

    index: int
    steps: int
    latents: Array
    denoised: Array


@dataclass(frozen=True, eq=False)
class Decoded:
    """A piece of audio is there, in order and not yet normalised.

    Attributes:
        piece: From 0.
        pieces: How many there are.
        samples: float32 [channels, m], following the piece before. What a loop fades into its start comes last.
    """

    piece: int
    pieces: int
    samples: Array


@dataclass(frozen=True, eq=False)
class Finished:
    """The last event."""

    clip: Clip


Event = Conditioned | Sampled | Decoded | Finished
"""What `Engine.stream` yields: one `Conditioned`, a `Sampled` for each step, a `Decoded` for each piece, `Finished`."""
