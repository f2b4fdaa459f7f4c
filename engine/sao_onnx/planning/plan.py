"""A plan: everything that is decided about a clip before any work. Plain data that can be printed, compared and pickled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sao_onnx.arrays import Array
from sao_onnx.audio.finish import Finish
from sao_onnx.bundle.manifest import ObjectiveName, SamplerName
from sao_onnx.option import Region
from sao_onnx.planning.regions import AUDIO_RAMP, LATENT_RAMP, weights


@dataclass(frozen=True, eq=False, repr=False)
class Values:
    """An array as plain data: compared by its values, printed by its shape."""

    array: Array

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Values) and np.array_equal(self.array, other.array)

    def __hash__(self) -> int:
        return hash(self.array.shape)

    def __repr__(self) -> str:
        return f"Values({' x '.join(map(str, self.array.shape))})"


@dataclass(frozen=True)
class Guidance:
    """Classifier-free guidance.

    Attributes:
        scale: Other than 1, which is none.
        negative_prompt: What it leads away from; None for no prompt at all.
    """

    scale: float
    negative_prompt: str | None


@dataclass(frozen=True)
class Window:
    """Latents that are sampled and decoded together.

    Attributes:
        seed: Of its noise.
        start: Frame of the clip where it begins. What the clip holds from there on is its initial audio.
        frames: Audio frames that it is meant to have, which regions count on.
        decoded: Audio frames that are decoded: `frames`, with the tail of a loop, or the whole window.
        tail: Frames after `frames` that are faded into the start of a loop; otherwise 0.
        latent_count: Latents that are sampled.
        sigmas: Noise levels, [steps + 1], the first one first.
        numbers: Value of every number conditioner.
        kept: Regions of the initial audio that are kept; None where nothing is kept as such.
    """

    seed: int
    start: int
    frames: int
    decoded: int
    tail: int
    latent_count: int
    sigmas: tuple[float, ...]
    numbers: Mapping[str, float]
    kept: tuple[Region, ...] | None

    @property
    def steps(self) -> int:
        """Sampling steps."""
        return len(self.sigmas) - 1


@dataclass(frozen=True)
class Plan:
    """All that is decided about a clip.

    Attributes:
        prompt: Text.
        objective: Of the model.
        sampler: By its name.
        guidance: None for none.
        windows: In the order in which they are made. A plain clip has one; an extended recording has as many as it takes.
        recording: Audio that there is before the first window, float32 [channels, frames] at the rate of the model, or None.
        latents: Clean latents to start from instead of a recording, float32 [channels, n], or None.
        finish: What is done to the audio at the end.
        sample_rate: In hertz.
        recorded: Options of the request that the provenance of the clip records.
        initial_name: Name of the file that was started from; "" for audio that was no file, None where there is none.
        latent_channels: Channels of the latents.
        ratio: Audio frames of one latent.
        initial_digest: SHA-256 of the file that was started from; None where there is none.
    """

    prompt: str
    objective: ObjectiveName
    sampler: SamplerName
    guidance: Guidance | None
    windows: tuple[Window, ...]
    recording: Values | None
    latents: Values | None
    finish: Finish
    recorded: Mapping[str, Any]
    initial_name: str | None
    sample_rate: int
    latent_channels: int
    ratio: int
    initial_digest: str | None = None

    @property
    def seed(self) -> int:
        """Of the first window; it makes the clip again."""
        return self.windows[0].seed

    def latent_weights(self, window: Window) -> Array:
        """How much of each latent of a window is kept, float32 [latents], 0 to 1."""
        rate = self.sample_rate / self.ratio
        return weights(window.kept or (), window.latent_count, rate, LATENT_RAMP / rate, window.frames / self.sample_rate)

    def audio_weights(self, window: Window) -> Array:
        """How much of each frame of a window is kept, float32 [latents × ratio], 0 to 1."""
        count, seconds = window.latent_count * self.ratio, window.frames / self.sample_rate
        return weights(window.kept or (), count, self.sample_rate, AUDIO_RAMP, seconds)
