"""A process that was forked makes clips of its own, or says why one cannot go on. It waits for no thread that it lacks."""

from __future__ import annotations

import os
import sys
import threading

import pytest

from sao_onnx import forks
from sao_onnx.errors import ForkedError
from sao_onnx.running.lazy import Lazy
from tests.processes import run

if not hasattr(os, "fork"):
    pytest.skip("this system has no forks", allow_module_level=True)

FORKING = """
import os, signal, sys, threading, warnings
import sao_onnx
from sao_onnx.errors import ForkedError
from sao_onnx.running import stages

warnings.simplefilter("ignore")  # Python says itself that a process with threads was forked.
OPTIONS = dict(seconds=1, steps=2, seed=1)


def forked(child):
    # What the child prints and how it ends. It ends as programs do, with all of Python's own cleaning up.
    sys.stdout.flush()
    number = os.fork()
    if number == 0:
        signal.alarm(60)  # It would hang.
        child()
        sys.exit(5)
    return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])
"""


def _printed(script: str, folder: object) -> list[str]:
    done = run([sys.executable, "-c", FORKING + script, str(folder)])
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.split()


def test_a_clip_while_the_parent_opens_a_network(miniature):
    """The thread that holds the lock of the denoiser is not in the child."""
    script = """
begun, go_on = threading.Event(), threading.Event()
load = stages.load_denoiser


def slow(*arguments):
    if threading.current_thread().name == "sao-onnx-load" and not begun.is_set():
        begun.set()
        go_on.wait()
    return load(*arguments)


stages.load_denoiser, stages.fits_ahead = slow, lambda *arguments: True
engine = sao_onnx.load(sys.argv[1], precision="fp32", threads=2)
made = []
thread = threading.Thread(target=lambda: made.append(engine.generate("rain", **OPTIONS)))
thread.start()
begun.wait()
print(forked(lambda: print(engine.generate("rain", **OPTIONS).samples.sum())))
go_on.set()
thread.join()
print(made[0].samples.sum())
"""
    stage, code, expected = _printed(script, miniature)
    assert code == "5"
    assert stage == expected


def test_a_clip_of_an_engine_that_has_made_one(miniature):
    """Its networks were opened in the parent, and so were the threads that they run on. Letting go of them waits for nobody."""
    script = """
engine = sao_onnx.load(sys.argv[1], precision="fp32", threads=2)
print(engine.generate("rain", **OPTIONS).samples.sum())


def child():
    engine.unload()
    print(engine.generate("rain", **OPTIONS).samples.sum())
    print(forked(lambda: print(engine.generate("rain", **OPTIONS).samples.sum())))


print(forked(child))
print(forked(lambda: print("ends")))
print(engine.generate("rain", **OPTIONS).samples.sum())
"""
    parent, child, grandchild, *codes, again = _printed(script, miniature)
    assert parent == child == grandchild == again
    assert codes == ["5", "5", "ends", "5"]


@pytest.mark.parametrize("event", ["Conditioned", "Sampled", "Decoded"])
def test_a_clip_does_not_go_on_in_another_process(event, miniature):
    script = f"""
engine = sao_onnx.load(sys.argv[1], precision="fp32", threads=2, keep_loaded=False)
events = engine.stream("rain", **OPTIONS)
for event in events:
    if type(event).__name__ == "{event}":
        break


def child():
    try:
        next(events)
    except ForkedError as error:
        print(str(error).replace(" ", "_"))
    engine.generate("rain", **OPTIONS)
    print("anew")


print(forked(child))
print(type(list(events)[-1]).__name__)
"""
    error, *rest = _printed(script, miniature)
    assert "begin_it_anew" in error
    assert rest == ["anew", "5", "Finished"]


def test_many_clips_do_not_go_on_in_another_process(miniature):
    script = """
engine = sao_onnx.load(sys.argv[1], precision="fp32", threads=1)
clips = engine.generate_many(["rain", "wind", "waves"], jobs=2, **OPTIONS)
next(clips)


def child():
    try:
        next(clips)
    except ForkedError:
        print("refused")


print(forked(child))
print(len(list(clips)))
"""
    assert _printed(script, miniature) == ["refused", "5", "2"]


def test_processes_of_multiprocessing(miniature):
    script = """
import multiprocessing

engine = sao_onnx.load(sys.argv[1], precision="fp32", threads=2)
print(engine.generate("rain", **OPTIONS).samples.sum())


def made(prompt):
    return engine.generate(prompt, **OPTIONS).samples.sum()


with multiprocessing.get_context("fork").Pool(2) as pool:
    print(*pool.map_async(made, ["rain"] * 4).get(120))
"""
    parent, *children = _printed(script, miniature)
    assert children == [parent] * 4


def test_nothing_is_watched_before_it_is_asked_for():
    """Python cannot forget what it calls after a fork, so the package asks for nothing when it is imported."""
    script = """
import os
asked = []
os.register_at_fork = lambda **calls: asked.extend(call.__module__ for call in calls.values())
import sao_onnx, sao_onnx.engine
print([name for name in asked if str(name).startswith("sao_onnx")])
"""
    assert run([sys.executable, "-c", script]).stdout == "[]\n"


@pytest.fixture
def fork(monkeypatch):
    """As if this process were forked at this moment."""
    monkeypatch.setattr(forks, "_processes", [*forks._processes])
    return forks._forked


def test_a_lock_is_free_afterwards(fork):
    lock = forks.Lock()
    held, go_on = threading.Event(), threading.Event()

    def hold():
        lock._lock.acquire()  # What a thread does that is never heard of again.
        held.set()

    with lock:
        pass
    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    thread.join()
    fork()
    with lock:
        go_on.set()
    assert go_on.is_set()


def test_a_lock_may_be_held_by_whoever_forks(fork):
    lock = forks.Lock()
    for _ in range(2):
        with lock:
            fork()


def test_a_user_of_the_process_before_is_no_user(fork):
    lazy = Lazy(object, keep=False)
    with lazy.use() as before:
        fork()
        assert not lazy.loaded
        with lazy.use() as own:
            assert own is not before
            with lazy.use() as again:
                assert again is own
        assert not lazy.loaded
    with lazy.use():
        assert lazy.loaded


def test_work_goes_on_without_a_fork(fork):
    assert list(forks.in_one_process(n for n in range(3))) == [0, 1, 2]
    closed = []

    def work():
        try:
            yield from range(3)
        finally:
            closed.append(True)

    numbers = forks.in_one_process(work())
    assert next(numbers) == 0
    fork()
    with pytest.raises(ForkedError, match="spawn"):
        next(numbers)
    assert closed == [True]
