"""An engine in asyncio: the loop stays free, and whatever ends a stream, no work goes on behind its back."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import itertools
import sys
import threading
import time
import weakref
from typing import Any, ClassVar

import numpy as np
import pytest

import sao_onnx
from sao_onnx.errors import AudioFileError, RequestError
from sao_onnx.events import Conditioned, Decoded, Finished, Sampled
from sao_onnx.running.awaited import Awaited
from tests.processes import GUARD, run, started, wait_until
from tests.test_engine import Alive

SHORT: Any = {"seconds": 0.3, "steps": 3, "seed": 1}


class Work:
    """A generator whose second item takes until `go` is set."""

    all: ClassVar[weakref.WeakSet[Any]] = weakref.WeakSet()

    def __init__(self, error=None):
        self.all.add(self)
        self.error = error
        self.making, self.go, self.closed = threading.Event(), threading.Event(), threading.Event()
        self.made = []
        self.threads = set()

    def items(self):
        try:
            for item in range(4):
                self.threads.add(threading.current_thread())
                if item == 1:
                    self.making.set()
                    assert self.go.wait(GUARD)
                    if self.error is not None:
                        raise self.error
                self.made.append(item)
                yield item
        finally:
            self.threads.add(threading.current_thread())
            self.closed.set()

    def is_over(self):
        """Closed, and its only thread gone."""
        assert len(self.threads) == 1
        return self.closed.is_set() and not next(iter(self.threads)).is_alive()


async def until(event: threading.Event) -> None:
    """Wait for it in the loop, which must be free for that."""
    while not event.is_set():
        await asyncio.sleep(0)


async def all_of(items):
    return [item async for item in items]


@pytest.fixture(autouse=True)
def _no_threads_are_left():
    before = set(threading.enumerate())
    yield
    for work in Work.all:  # Of a test that failed.
        work.go.set()
    gc.collect()
    for thread in set(threading.enumerate()) - before:
        if not thread.name.startswith("asyncio"):
            thread.join(GUARD)
            assert not thread.is_alive(), thread


@pytest.fixture(autouse=True)
def _asyncio_complains_of_nothing(caplog):
    yield
    gc.collect()
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


def test_streams_side_by_side_are_what_generate_makes(engine):
    prompts = ["rain", "kick", "wind", "rain"]

    async def last(prompt, seed):
        events = [event async for event in engine.astream(prompt, **{**SHORT, "seed": seed})]
        assert [type(event) for event in events] == [Conditioned, *[Sampled] * 3, Decoded, Finished]
        return events[-1].clip

    async def together():
        return await asyncio.gather(*(last(prompt, seed) for seed, prompt in enumerate(prompts)))

    clips = asyncio.run(together(), debug=True)
    for seed, (prompt, clip) in enumerate(zip(prompts, clips, strict=True)):
        np.testing.assert_array_equal(clip.samples, engine.generate(prompt, **{**SHORT, "seed": seed}).samples)


def test_agenerate(engine):
    clip = asyncio.run(engine.agenerate("rain", **SHORT))
    np.testing.assert_array_equal(clip.samples, engine.generate("rain", **SHORT).samples)
    assert asyncio.iscoroutinefunction(engine.agenerate)


def test_the_loop_is_free_while_an_item_is_made():
    work = Work()

    async def main():
        async def let_go():
            await until(work.making)
            work.go.set()

        found, _ = await asyncio.gather(all_of(Awaited(work.items())), let_go())
        return found

    assert asyncio.run(main()) == [0, 1, 2, 3]
    assert work.is_over()


@pytest.mark.parametrize("times", [1, 3])
def test_a_cancelled_task_ends_with_the_item_that_is_being_made(times):
    work = Work()

    async def main():
        task = asyncio.create_task(all_of(Awaited(work.items())))
        await until(work.making)
        for _ in range(times):
            task.cancel()
            for _ in range(100):
                await asyncio.sleep(0)
        # Not before: the thread would go on behind the back of whoever cancelled.
        assert not task.done()
        work.go.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()
        assert work.is_over()

    asyncio.run(main())
    assert work.made == [0, 1]


def test_a_timeout_ends_with_the_item_that_is_being_made():
    work = Work()

    async def main():
        async def over(limit):
            await until(work.making)
            limit.reschedule(asyncio.get_running_loop().time())
            for _ in range(100):
                await asyncio.sleep(0)
            work.go.set()

        async def limited():
            async with asyncio.timeout(None) as limit:
                timers.append(asyncio.create_task(over(limit)))
                await all_of(Awaited(work.items()))

        timers: list[Any] = []
        with pytest.raises(TimeoutError):
            await limited()
        assert work.is_over()
        await timers[0]

    asyncio.run(main())
    assert work.made == [0, 1]


def test_waiting_too_long_for_one_item():
    work = Work()

    async def main():
        items = Awaited(work.items())
        assert await anext(items) == 0
        asyncio.get_running_loop().call_later(0.1, work.go.set)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(items), 0.01)
        assert work.closed.is_set()
        assert await all_of(items) == []
        await items.aclose()

    asyncio.run(main())
    assert 2 not in work.made


def test_closing_from_another_task():
    """Which no generator of Python's allows while it works."""
    work = Work()

    async def main():
        items = Awaited(work.items())
        consumer = asyncio.create_task(all_of(items))
        await until(work.making)
        closers = [asyncio.create_task(items.aclose()) for _ in range(2)]
        await asyncio.sleep(0)
        work.go.set()
        await asyncio.gather(*closers)
        assert work.is_over()
        assert await consumer == [0]
        await items.aclose()

    asyncio.run(main())
    assert work.made == [0, 1]


def test_closing_before_the_first_item():
    work = Work()

    async def main():
        items = Awaited(work.items())
        await items.aclose()
        assert await all_of(items) == []

    asyncio.run(main())
    assert work.made == []
    Awaited(work.items())  # And what is never iterated.


def test_several_tasks_share_a_stream():
    work = Work()
    work.go.set()

    async def main():
        items = Awaited(work.items())
        return await asyncio.gather(*(all_of(items) for _ in range(3)))

    assert sorted(itertools.chain(*asyncio.run(main()))) == [0, 1, 2, 3]
    assert work.is_over()


def test_leaving_the_loop_ends_the_work():
    work = Work()
    work.go.set()

    async def main():
        async for item in Awaited(work.items()):
            if item == 2:
                break
        await until(work.closed)

    asyncio.run(main())
    assert work.made == [0, 1, 2]


def test_the_end_of_the_block_waits_for_the_end_of_the_work():
    work = Work()
    work.go.set()

    async def main():
        async with Awaited(work.items()) as items:
            async for _ in items:
                break
            assert not work.closed.is_set()
        assert work.is_over()

    asyncio.run(main())
    assert work.made == [0]


def test_an_error_of_the_work_arrives():
    class OddError(Exception):
        pass

    work = Work(error=OddError("two"))
    work.go.set()

    async def main():
        items = Awaited(work.items())
        assert await anext(items) == 0
        with pytest.raises(OddError, match="two"):
            await anext(items)
        assert work.is_over()
        assert await all_of(items) == []

    asyncio.run(main())


def test_an_error_after_cancelling_is_nobodys():
    work = Work(error=ValueError("late"))

    async def main():
        task = asyncio.create_task(all_of(Awaited(work.items())))
        await until(work.making)
        task.cancel()
        await asyncio.sleep(0)
        work.go.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert work.is_over()

    asyncio.run(main())


def test_the_end_of_the_loop_ends_a_stream_in_the_background():
    """`asyncio.run` cancels what is left."""
    work = Work()
    tasks = []

    async def main():
        tasks.append(asyncio.create_task(all_of(Awaited(work.items()))))
        await until(work.making)
        asyncio.get_running_loop().call_soon(work.go.set)

    asyncio.run(main())
    assert tasks[0].cancelled()
    assert work.is_over()


def test_a_loop_that_is_thrown_away():
    """Nobody cancels anything; the work still ends with the item that is being made."""
    work = Work()
    loop = asyncio.new_event_loop()
    task: Any = loop.create_task(all_of(Awaited(work.items())))
    loop.run_until_complete(until(work.making))
    loop.close()
    task._log_destroy_pending = False  # Of asyncio, about whoever closed the loop.
    del task
    gc.collect()
    assert not work.closed.is_set()
    work.go.set()
    deadline = time.monotonic() + GUARD
    while not work.closed.is_set():
        assert time.monotonic() < deadline
        gc.collect()  # Task and future hold each other.
    assert work.made == [0, 1]


def test_a_stream_goes_on_in_another_loop():
    work = Work()
    work.go.set()
    items = Awaited(work.items())

    async def first():
        return await anext(items)

    assert asyncio.run(first()) == 0
    assert asyncio.run(all_of(items)) == [1, 2, 3]
    assert work.is_over()


def test_the_work_sees_the_callers_context():
    who = contextvars.ContextVar("who", default="nobody")

    def items():
        yield who.get()

    async def main():
        who.set("the caller")
        return await all_of(Awaited(items()))

    assert asyncio.run(main()) == ["the caller"]


def test_a_cancelled_stream_lets_go_of_its_stage(miniature):
    engine = sao_onnx.load(miniature, precision="fp32", keep_loaded=False)
    alive = Alive()

    async def main():
        begun = asyncio.Event()

        async def work():
            async for event in engine.astream("rain", seed=1, steps=500):
                if isinstance(event, Sampled):
                    begun.set()

        task = asyncio.create_task(work())
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        del task
        assert alive() == set()
        async for event in engine.astream("rain", seed=1):
            if isinstance(event, Sampled):
                break
        del event

    asyncio.run(main())


def test_wrong_options_are_found_at_once_and_files_in_the_thread(engine, tmp_path):
    with pytest.raises(RequestError, match="did you mean 'seconds'"):
        engine.astream("rain", secons=1)
    events = engine.astream("rain", init_audio=tmp_path / "missing.wav")
    with pytest.raises(AudioFileError, match=r"missing\.wav"):
        asyncio.run(all_of(events))
    with pytest.raises(RequestError, match="a loop needs bpm and bars"):
        asyncio.run(engine.agenerate("rain", bpm=120))


def test_a_generator_of_the_users_own_around_it(engine):
    """As an HTTP handler has it: closed by its framework, which knows nothing of the stream."""

    async def fractions():
        async with engine.astream("rain", **SHORT) as events:
            async for event in events:
                yield event.fraction

    async def main():
        async with contextlib.aclosing(fractions()) as found:
            return await anext(found)

    assert 0 < asyncio.run(main()) < 1


SCRIPT = """
import asyncio, sys, sao_onnx
engine = sao_onnx.load(sys.argv[1], precision="fp32", threads=1)
held = []

async def work():
    held.append(engine.astream("rain", seed=1, steps=100_000))
    async for event in held[-1]:
        if hasattr(event, "index"):
            begun.set()

async def main():
    global begun
    begun = asyncio.Event()
    held.append(asyncio.create_task(work()))
    await begun.wait()
    {end}

asyncio.run(main())
"""


@pytest.mark.parametrize("end", ["return", "held.append(engine.astream('rain')); await anext(held[-1])"])
def test_a_program_that_ends_in_the_middle(miniature, end):
    done = run([sys.executable, "-X", "dev", "-W", "error", "-c", SCRIPT.replace("{end}", end), miniature])
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


LEFT = """
import asyncio, sys, sao_onnx
engine = sao_onnx.load(sys.argv[1], precision="fp32", threads=1)

async def work():
    {work}

async def until(event):
    await event.wait()

loop = asyncio.new_event_loop()
begun = asyncio.Event()
task = loop.create_task(work())
task._log_destroy_pending = False  # What asyncio says of whoever does not end tasks.
loop.run_until_complete(until(begun))
{end}
"""
STREAM = "async for event in engine.astream('rain', seed=1, steps=100_000): hasattr(event, 'index') and begun.set()"
CLIP = "asyncio.get_running_loop().call_later(0.2, begun.set); await engine.agenerate('rain', seed=1, steps=3_000)"


@pytest.mark.parametrize("end", ["", "loop.close()", "del loop, task", "loop.stop(); task.cancel()"])
@pytest.mark.parametrize("work", [STREAM, CLIP])
def test_a_loop_that_is_left_at_the_end_of_the_program(miniature, work, end):
    done = run([sys.executable, "-c", LEFT.replace("{work}", work).replace("{end}", end), miniature])
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.skipif(sys.platform == "win32", reason="interrupts are sent to a group there")
def test_ctrl_c_in_the_middle(miniature, tmp_path):
    import signal

    begun = tmp_path / "begun"
    end = f"open({str(begun)!r}, 'w').close(); await held[0]"
    with started([sys.executable, "-c", SCRIPT.replace("{end}", end), miniature], stderr=-1, text=True) as process:
        wait_until(begun.exists, process)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=GUARD)
    assert process.returncode == -signal.SIGINT
    assert stderr.strip().endswith("KeyboardInterrupt")
    assert "destroyed" not in stderr
    assert "already executing" not in stderr
