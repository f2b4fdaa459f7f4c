"""How long a client is told to wait, by a clock that stands still until it is told to go on."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from sao_onnx.events import Conditioned, Finished, Sampled
from sao_onnx.request import Request
from sao_onnx.serve.job import Job
from sao_onnx.serve.jobs import GUESSED_SECONDS
from sao_onnx.serve.refusals import QueueFullError
from tests.serve.engines import LATENTS, Engine, clip, job, until


class Clock:
    """Stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now


class Scripted(Engine):
    """Makes a step when it is told to."""

    def __init__(self, steps: int) -> None:
        super().__init__(steps=steps)
        self.may = threading.Semaphore(0)

    def stream(self, prompt):
        self.begun.append(prompt.prompt)
        yield Conditioned(self.steps)
        for index in range(self.steps):
            assert self.may.acquire(timeout=60)
            yield Sampled(index, self.steps, LATENTS, LATENTS, (index + 1) / self.steps)
        assert self.may.acquire(timeout=60)
        yield Finished(clip(seed=prompt.seed))


@pytest.fixture
def clock(monkeypatch):
    found = Clock()
    monkeypatch.setattr("sao_onnx.serve.jobs.time", found)
    return found


def made_in(jobs, engine, clock, one, seconds):
    """A running clip is made, whose steps take the same time each."""
    for index in range(engine.steps):
        clock.now += seconds / engine.steps
        engine.may.release()
        until(lambda index=index: one.status.step == index + 1)
    engine.may.release()
    until(lambda: one.status.ended)


@pytest.mark.parametrize("waiting", [0, 1, 3])
def test_who_comes_again_when_told_to_finds_a_place_and_not_before(made, clock, waiting):
    engine = Scripted(steps=4)
    jobs = made(engine, waiting=waiting)
    first = job()
    jobs.submit(first)
    until(lambda: first.status.state == "running")
    made_in(jobs, engine, clock, first, 8.0)
    asked = [job() for _ in range(waiting + 1)]
    for one in asked:
        jobs.submit(one)
        until(lambda: asked[0].status.state == "running")
    for at, begun in ((0.0, 0), (1.5, 0), (2.0, 1), (4.4, 2)):
        clock.now += at - (clock.now - 1_008.0)
        for _ in range(begun - asked[0].status.step):
            engine.may.release()
        until(lambda begun=begun: asked[0].status.step == begun)
        with pytest.raises(QueueFullError) as caught:
            jobs.submit(job())
        # Half of it is done after 4.4 s, so it takes 8.8 s; nobody comes before that.
        ends = {0.0: 8, 1.5: 8, 2.0: 8, 4.4: 8.8}[at]
        assert at + caught.value.retry_after - 1 < ends <= at + caught.value.retry_after
        assert f"in {caught.value.retry_after} s" in str(caught.value)
    for _ in range(3):
        engine.may.release()
    until(lambda: asked[0].status.ended)
    until(lambda: jobs.counts()["queued"] == max(0, waiting - 1))
    jobs.submit(job())
    for _ in range(50):
        engine.may.release()


def test_a_clip_that_takes_longer_than_the_others_is_reckoned_by_its_own_pace(made, clock):
    engine = Scripted(steps=10)
    jobs = made(engine, waiting=0)
    one = job()
    jobs.submit(one)
    until(lambda: one.status.state == "running")
    clock.now += 20
    engine.may.release()
    until(lambda: one.status.step == 1)
    with pytest.raises(QueueFullError) as caught:
        jobs.submit(job())
    assert caught.value.retry_after == 180
    for _ in range(10):
        engine.may.release()


def test_a_recording_waits_until_those_before_it_have_left_the_queue(made, clock):
    recording = (np.zeros((2, 10_000), np.float32), 1000)
    jobs = made(Engine(wait=True), waiting=10, keep_bytes=100_000, workers=2)
    for _ in range(2):
        jobs.submit(job())
    until(lambda: jobs.counts()["running"] == 2)
    for _ in range(2):
        jobs.submit(job())
    jobs.submit(Job("tiny", Request("kick", seed=1, init_audio=recording)))
    jobs.submit(job())
    with pytest.raises(QueueFullError) as caught:
        jobs.submit(Job("tiny", Request("kick", seed=1, init_audio=recording)))
    # Two clips are made, then the two that wait before the recording, one of which makes a place for it.
    assert caught.value.retry_after == 2 * GUESSED_SECONDS


@pytest.mark.parametrize(("workers", "position", "seconds"), [(1, 1, 20), (1, 3, 40), (2, 1, 20), (2, 2, 20), (2, 3, 30)])
def test_how_long_a_clip_that_waits_has_to_wait(made, clock, workers, position, seconds):
    jobs = made(Engine(wait=True), workers=workers)
    for _ in range(workers):
        jobs.submit(job())
    until(lambda: jobs.counts()["running"] == workers)
    asked = [job() for _ in range(position)]
    for one in asked:
        jobs.submit(one)
    assert jobs.expected_seconds(asked[-1]) == seconds
