"""How far a clip is, as a share of the time that it will take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sao_onnx.bundle.manifest import StageName
from sao_onnx.clip import Timings
from sao_onnx.forks import Lock
from sao_onnx.planning.plan import Plan


@dataclass(frozen=True)
class Pace:
    """Seconds that the parts of a clip take.

    The defaults are those of the full size in 8 bits on two cores of an Intel Xeon (`processors.md` and `profile.md` in
    `bench/results`): for 256 latents 0.24 s a sampling step and 2.8 s of decoding, of which 0.2 s come before the first piece;
    0.7 s to load 650 MB. Only their ratios matter. What was measured on a clip replaces them.

    Attributes:
        load: For each byte of a stage on disk.
        conditioning: For each prompt.
        encoding: For each latent of a window.
        step: For each latent of a window, without guidance.
        decoding_start: For each latent of a window: the decoder's first graph, which runs over the whole window.
        decoding: For each latent that is decoded.
    """

    load: float = 0.7 / 650e6
    conditioning: float = 0.03
    encoding: float = 0.008
    step: float = 0.24 / 256
    decoding_start: float = 0.2 / 256
    decoding: float = 2.6 / 256


class Progress:
    """Adds up the expected seconds of the work that is done on a plan.

    Args:
        plan: What is to be done.
        pace: How long its parts are expected to take.
        loads: For each window, bytes of the stages that are to be loaded, by name.
    """

    def __init__(self, plan: Plan, pace: Pace, loads: Sequence[Mapping[StageName, int]]) -> None:
        self._pace = pace
        self._passes = 1 if plan.guidance is None else 2
        negative = plan.guidance is not None and plan.guidance.negative_prompt is not None
        self._conditioning = pace.conditioning * (2 if negative else 1)
        self._loads = loads
        # Every window but the first one goes on from audio that there is.
        encodes = [plan.recording is not None or index > 0 for index in range(len(plan.windows))]
        self._total = sum(
            pace.load * sum(size for name, size in loads[index].items() if encodes[index] or name != "encoder")
            + self._conditioning
            + (pace.encoding * window.latent_count if encodes[index] else 0.0)
            + window.steps * self._step(window.latent_count)
            + pace.decoding_start * window.latent_count
            + pace.decoding * window.decoded / plan.ratio
            for index, window in enumerate(plan.windows)
        )
        self._done = 0.0

    def _step(self, latents: int) -> float:
        return self._pace.step * latents * self._passes

    def loaded(self, window: int, stage: StageName) -> int:
        """A stage is there to be used. Returns the bytes that were loaded for it."""
        self._done += self._pace.load * self._loads[window][stage]
        return self._loads[window][stage]

    def conditioned(self) -> float:
        """A window is conditioned. Returns the fraction of the whole that is done."""
        return self._add(self._conditioning)

    def encoded(self, latents: int) -> None:
        """Initial audio is encoded."""
        self._done += self._pace.encoding * latents

    def sampled(self, latents: int) -> float:
        """A sampling step over so many latents is done. Returns the fraction of the whole that is done."""
        return self._add(self._step(latents))

    def decoded(self, latents: float, window: int = 0) -> float:
        """Audio of so many latents is decoded; with the first piece, a window of so many. Returns the fraction that is done."""
        return self._add(self._pace.decoding * latents + self._pace.decoding_start * window)

    def _add(self, seconds: float) -> float:
        self._done += seconds
        return min(1.0, self._done / self._total)


@dataclass(frozen=True)
class Measured:
    """What a clip took besides its timings.

    Attributes:
        loaded: Bytes of the stages that were loaded.
        first_pieces: Seconds until the first piece of each window was decoded, together.
        first_latents: Latents of these pieces, together.
    """

    loaded: int = 0
    first_pieces: float = 0.0
    first_latents: float = 0.0

    def with_load(self, size: int) -> Measured:
        """With a stage of so many bytes."""
        return replace(self, loaded=self.loaded + size)

    def with_first_piece(self, seconds: float, latents: float) -> Measured:
        """With the first piece of a window."""
        return replace(self, first_pieces=self.first_pieces + seconds, first_latents=self.first_latents + latents)


class MeasuredPace:
    """The pace of the clips so far, shared by the threads of an engine."""

    def __init__(self, pace: Pace | None = None) -> None:
        self._lock = Lock()
        self._pace = pace or Pace()

    def now(self) -> Pace:
        """The pace of the last clip, or the default."""
        with self._lock:
            return self._pace

    def learn(self, plan: Plan, timings: Timings, measured: Measured) -> None:
        """Take over the pace of a clip that is finished. What it had no part of changes as the sampling steps do."""
        latents = sum(window.latent_count for window in plan.windows)
        steps = sum(window.latent_count * window.steps for window in plan.windows) * (1 if plan.guidance is None else 2)
        decoded = sum(window.decoded for window in plan.windows) / plan.ratio
        prompts = len(plan.windows) * (1 if plan.guidance is None or plan.guidance.negative_prompt is None else 2)
        with self._lock:
            old = self._pace
            step = timings.sampling / steps
            others = decoded - measured.first_latents
            # A clip of one piece does not tell its parts from each other.
            decoding = (timings.decoding - measured.first_pieces) / others if others > 0 else old.decoding * step / old.step
            self._pace = Pace(
                load=timings.load / measured.loaded if measured.loaded else old.load * step / old.step,
                conditioning=timings.conditioning / prompts,
                encoding=timings.encoding / latents if timings.encoding else old.encoding * step / old.step,
                step=step,
                decoding_start=max(0.0, measured.first_pieces - decoding * measured.first_latents) / latents,
                decoding=decoding,
            )
