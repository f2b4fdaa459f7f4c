"""How far a clip is, as a share of the time that it will take."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from sao_onnx.clip import Timings
from sao_onnx.planning.plan import Plan


@dataclass(frozen=True)
class Pace:
    """Seconds that the work of a clip takes, for each latent of a window.

    The defaults are those of the full size in 8 bits on two cores of an Intel Xeon (`bench/results/processors.md`): for 256
    latents 0.24 s a sampling step and 2.8 s of decoding. Only their ratios matter. The pace of a finished clip replaces them.

    Attributes:
        conditioning: Prompt and numbers; for each window, not each latent.
        encoding: Initial audio to latents.
        step: A sampling step without guidance.
        decoding: Latents to audio.
    """

    conditioning: float = 0.03
    encoding: float = 0.008
    step: float = 0.24 / 256
    decoding: float = 2.8 / 256


class Progress:
    """Adds up the work that is done on a plan.

    Args:
        plan: What is to be done.
        pace: How long its parts are expected to take.
    """

    def __init__(self, plan: Plan, pace: Pace) -> None:
        self._pace = pace
        self._passes = 1 if plan.guidance is None else 2
        self._encodes = plan.recording is not None
        self._total = sum(
            pace.conditioning
            + (pace.encoding * window.latents if self._encodes else 0.0)
            + window.steps * self._step(window.latents)
            + pace.decoding * window.decoded / plan.ratio
            for window in plan.windows
        )
        self._done = 0.0

    def _step(self, latents: int) -> float:
        return self._pace.step * latents * self._passes

    def conditioned(self) -> float:
        """A window is conditioned. Returns the fraction of the whole that is done."""
        return self._add(self._pace.conditioning)

    def encoded(self, latents: int) -> float:
        """Initial audio is encoded."""
        return self._add(self._pace.encoding * latents)

    def sampled(self, latents: int) -> float:
        """A sampling step over so many latents is done."""
        return self._add(self._step(latents))

    def decoded(self, latents: float) -> float:
        """Audio of so many latents is decoded."""
        return self._add(self._pace.decoding * latents)

    def _add(self, seconds: float) -> float:
        self._done += seconds
        return min(1.0, self._done / self._total)


class MeasuredPace:
    """The pace of the clips so far, shared by the threads of an engine."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pace = Pace()

    def now(self) -> Pace:
        """The pace of the last clip, or the default."""
        with self._lock:
            return self._pace

    def learn(self, plan: Plan, timings: Timings) -> None:
        """Take over the pace of a clip that is finished."""
        latents = sum(window.latents for window in plan.windows)
        steps = sum(window.latents * window.steps for window in plan.windows) * (1 if plan.guidance is None else 2)
        decoded = sum(window.decoded for window in plan.windows) / plan.ratio
        with self._lock:
            self._pace = Pace(
                conditioning=timings.conditioning / len(plan.windows),
                encoding=timings.encoding / latents if timings.encoding else self._pace.encoding,
                step=timings.sampling / steps,
                decoding=timings.decoding / decoded,
            )
