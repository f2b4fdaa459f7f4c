"""An engine that does what each test says, for queues."""

from __future__ import annotations

import threading
import time

import numpy as np

from sao_onnx.clip import Clip, Timings
from sao_onnx.events import Conditioned, Finished, Sampled
from sao_onnx.request import Request
from sao_onnx.serve.job import Job

LATENTS = np.zeros((2, 3), np.float32)


def clip(seconds=0.1, seed=0) -> Clip:
    return Clip(np.zeros((2, int(1000 * seconds)), np.float32), 1000, seed, LATENTS, Timings(), provenance=None)  # type: ignore[arg-type]


class Engine:
    """Makes its steps when it is told to."""

    def __init__(self, *, steps=4, wait=False, error=None) -> None:
        self.steps, self.error = steps, error
        self.go = threading.Event()
        self.begun: list[str] = []
        self.closed = 0
        self.yielded = 0
        if not wait:
            self.go.set()

    def stream(self, prompt):
        self.begun.append(prompt.prompt)
        try:
            yield Conditioned(self.steps)
            for index in range(self.steps):
                self.go.wait(60)
                if self.error is not None:
                    raise self.error
                self.yielded += 1
                yield Sampled(index, self.steps, LATENTS, LATENTS, (index + 1) / (self.steps + 1))
            yield Finished(clip(seed=prompt.seed))
        finally:
            self.closed += 1

    def decode(self, latents, seconds=None):
        return np.zeros((2, 10), np.float32)


def until(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def job(prompt="kick", **about) -> Job:
    return Job("tiny", Request(prompt, seed=1), **about)
