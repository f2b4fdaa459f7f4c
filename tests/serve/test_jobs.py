"""The queue, with an engine that does what each test says."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from sao_onnx.errors import BundleError
from sao_onnx.request import Request
from sao_onnx.serve.job import Job
from sao_onnx.serve.jobs import GUESSED_SECONDS, Jobs
from sao_onnx.serve.refusals import EndingError, QueueFullError
from tests.serve.engines import Engine, clip, job, until


def test_clips_are_made_in_order(made):
    engine = Engine()
    jobs = made(engine)
    asked = [job(f"{i}") for i in range(5)]
    for one in asked:
        jobs.submit(one)
    until(lambda: all(one.status.ended for one in asked))
    assert engine.begun == ["0", "1", "2", "3", "4"]
    assert {one.status.state for one in asked} == {"done"}
    assert all(one.clip is not None and one.status.fraction == 1 for one in asked)


def test_positions_count_down(made):
    engine = Engine(wait=True)
    jobs = made(engine)
    first, second, third = asked = [job(f"{i}") for i in range(3)]
    for one in asked:
        jobs.submit(one)
    until(lambda: first.status.state == "running")
    assert [one.status.position for one in asked] == [0, 1, 2]
    jobs.cancel(second)
    assert (second.status.state, third.status.position) == ("cancelled", 1)
    assert jobs.expected_seconds(third) > 0


def test_a_full_queue_refuses_and_says_when_to_come_again(made):
    engine = Engine(wait=True)
    jobs = made(engine, waiting=2)
    first = job()
    jobs.submit(first)
    until(lambda: first.status.state == "running")
    for _ in range(2):
        jobs.submit(job())
    with pytest.raises(QueueFullError) as caught:
        jobs.submit(job())
    assert caught.value.retry_after == GUESSED_SECONDS


def test_a_queue_without_places_takes_what_can_be_made_at_once(made):
    jobs = made(Engine(wait=True), waiting=0)
    jobs.submit(job())
    until(lambda: jobs.counts()["running"] == 1)
    with pytest.raises(QueueFullError):
        jobs.submit(job())


def test_a_running_clip_is_cancelled_before_its_next_step(made):
    engine = Engine(wait=True, steps=1000)
    jobs = made(engine)
    one = job()
    jobs.submit(one)
    until(lambda: one.status.state == "running")
    jobs.cancel(one)
    engine.go.set()
    until(lambda: one.status.ended)
    assert one.status.state == "cancelled"
    assert engine.yielded <= 1
    assert engine.closed == 1


@pytest.mark.parametrize("error", [BundleError("broken"), MemoryError(), RuntimeError("no"), RecursionError(), SystemExit(3)])
def test_a_failure_is_that_of_one_clip(made, error):
    engine = Engine(error=error)
    jobs = made(engine)
    bad, good = job("bad"), job("good")
    jobs.submit(bad)
    until(lambda: bad.status.ended)
    assert bad.status.state == "failed"
    assert bad.status.error_type == type(error).__name__
    # What a stranger is told of a defect does not quote it.
    assert ("broken" in bad.status.error) == isinstance(error, BundleError)
    engine.error = None
    jobs.submit(good)
    until(lambda: good.status.ended)
    assert good.status.state == "done"


def test_several_workers_make_several_clips(made):
    engine = Engine(wait=True)
    jobs = made(engine, workers=3)
    for _ in range(5):
        jobs.submit(job())
    until(lambda: jobs.counts()["running"] == 3)
    assert jobs.counts()["queued"] == 2


def test_finished_clips_are_kept_up_to_a_size(made):
    jobs = made(Engine(), keep_bytes=2 * clip().samples.nbytes)
    asked = [job() for _ in range(4)]
    for one in asked:
        jobs.submit(one)
    until(lambda: all(one.status.ended for one in asked))
    assert [jobs.get(one.id) is not None for one in asked] == [False, False, True, True]


def test_finished_clips_are_kept_for_a_time(made):
    jobs = made(Engine(), keep_seconds=0.0)
    one = job()
    jobs.submit(one)
    until(lambda: one.status.ended)
    until(lambda: jobs.get(one.id) is None)
    assert jobs.counts()["kept"] == 0


def test_watchers_hear_of_every_end_and_may_leave(made):
    heard: list[str] = []
    one = job()
    stop = one.watch(lambda: heard.append(one.status.state))
    other = one.watch(lambda: heard.append("other"))
    other()
    jobs = made(Engine())
    jobs.submit(one)
    until(lambda: one.status.ended)
    until(lambda: heard and heard[-1] == "done")
    assert "other" not in heard
    stop()
    one.change(state="failed")
    assert one.status.state == "done", "nothing changes after the end"


def test_previews_are_made_where_they_are_wanted(made):
    jobs = made(Engine(steps=6))
    seen = job(preview=True)
    jobs.submit(seen)
    until(lambda: seen.status.ended)
    assert seen.status.previews == 4
    plain = job()
    jobs.submit(plain)
    until(lambda: plain.status.ended)
    assert plain.status.previews == 0


def test_networks_are_let_go_once_when_nothing_is_to_do(made):
    calls: list[int] = []
    jobs = made(Engine(), idle=lambda: calls.append(1), idle_seconds=0.01)
    until(lambda: calls)
    one = job()
    jobs.submit(one)
    until(lambda: len(calls) == 2)
    time.sleep(0.1)
    assert len(calls) == 2


def test_the_end_cancels_what_waits_and_waits_for_what_runs():
    engine = Engine(wait=True)
    jobs = Jobs(lambda name: engine)
    running, waiting = job(), job()
    jobs.submit(running)
    until(lambda: running.status.state == "running")
    jobs.submit(waiting)
    engine.go.set()
    jobs.close(60)
    assert (running.status.state, waiting.status.state) == ("done", "cancelled")
    with pytest.raises(EndingError):
        jobs.submit(job())


def test_what_a_clip_started_from_is_let_go_at_its_end(made):
    jobs = made(Engine())
    one = Job("tiny", Request("kick", seed=1, init_audio=(np.zeros((2, 5_000), np.float32), 1000)))
    assert one.size == 40_000
    jobs.submit(one)
    until(lambda: one.status.ended)
    assert one.size == clip().samples.nbytes
    assert one.request.init_audio is None


def test_recordings_that_wait_take_no_more_memory_than_may_be_kept(made):
    jobs = made(Engine(wait=True), keep_bytes=100_000)
    recording = (np.zeros((2, 10_000), np.float32), 1000)
    jobs.submit(job())
    until(lambda: jobs.counts()["running"] == 1)
    jobs.submit(Job("tiny", Request("kick", seed=1, init_audio=recording)))
    with pytest.raises(QueueFullError):
        jobs.submit(Job("tiny", Request("kick", seed=1, init_audio=recording)))
    jobs.submit(job())


def test_what_was_kept_goes_without_anybody_asking(made, monkeypatch):
    monkeypatch.setattr("sao_onnx.serve.jobs.LOOK", 0.01)
    jobs = made(Engine(), keep_seconds=0.0)
    one = job()
    jobs.submit(one)
    until(lambda: one.status.ended)
    until(lambda: one.id not in jobs._all)


def test_who_hears_of_the_end_finds_a_free_worker(made):
    jobs = made(Engine(), waiting=0)
    for _ in range(50):
        one = job()
        heard = threading.Event()

        def changed(one: Job = one, heard: threading.Event = heard) -> None:
            if one.status.ended:
                heard.set()

        one.watch(changed)
        jobs.submit(one)
        assert heard.wait(60)


def test_a_clip_that_is_cancelled_before_it_begins_loads_nothing(made):
    engine = Engine(wait=True)
    jobs = made(engine)
    one = job()
    one.cancel()
    jobs.submit(one)
    until(lambda: one.status.ended)
    assert (one.status.state, engine.begun) == ("cancelled", [])


def test_clips_that_are_waited_for_leave_no_watchers():
    import asyncio

    from sao_onnx.serve.service import statuses

    async def leave(one: Job) -> None:
        changes = statuses(one)
        assert (await anext(changes)).state == "queued"
        assert len(one._watchers) == 1
        await changes.aclose()

    one = job()
    asyncio.run(leave(one))
    assert not one._watchers
