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
        fraction: Of the expected time of the whole clip, over all windows and stages, 0 to 1.
    """

    steps: int
    window: int = 0
    windows: int = 1
    fraction: float = 0.0


@dataclass(frozen=True, eq=False)
class Sampled:
    """A sampling step is done.

    Attributes:
        index: From 0.
        steps: How many there are.
        latents: After the step, float32 [latent channels, n].
        denoised: The estimate of the clean latents, float32 [latent channels, n].
        fraction: Of the expected time of the whole clip, 0 to 1.
    """

    index: int
    steps: int
    latents: Array
    denoised: Array
    fraction: float = 0.0


@dataclass(frozen=True, eq=False)
class Decoded:
    """A piece of audio is decoded, in order, not yet normalized.

    Attributes:
        piece: From 0.
        pieces: How many there are.
        samples: float32 [channels, m], directly after the piece before. The last pieces of a loop hold what is faded into its
            start.
        fraction: Of the expected time of the whole clip, 0 to 1.
    """

    piece: int
    pieces: int
    samples: Array
    fraction: float = 0.0


@dataclass(frozen=True, eq=False)
class Finished:
    """The last event."""

    clip: Clip
    fraction: float = 1.0


Event = Conditioned | Sampled | Decoded | Finished
"""For each window one `Conditioned`, a `Sampled` for each step and a `Decoded` for each piece; at the end one `Finished`."""
