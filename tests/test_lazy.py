from __future__ import annotations

import gc
import platform
import sys
import threading
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from sao_onnx.errors import SaoOnnxWarning
from sao_onnx.running.lazy import Lazy
from sao_onnx.running.together import together
from sao_onnx.warn import warn
from tests.processes import GUARD, run, succeed


class Value:
    made = 0

    def __init__(self):
        type(self).made += 1


@pytest.fixture(autouse=True)
def _count():
    Value.made = 0


def _gone(seen) -> bool:
    gc.collect()
    return seen() is None


def test_loads_when_needed_and_once():
    lazy = Lazy(Value, keep=True)
    assert Value.made == 0
    with lazy.use() as first:
        pass
    with lazy.use() as second:
        assert second is first
    assert Value.made == 1


def test_lets_go_after_use():
    lazy = Lazy(Value, keep=False)
    with lazy.use() as value:
        seen = weakref.ref(value)
        with lazy.use() as other:
            assert other is value
        assert seen() is not None
    del value, other
    assert _gone(seen)
    with lazy.use():
        assert Value.made == 2


def test_lets_go_when_its_user_fails():
    lazy = Lazy(Value, keep=False)
    with pytest.raises(RuntimeError), lazy.use():
        raise RuntimeError
    with lazy.use():
        assert Value.made == 2


def test_a_failed_load_is_tried_again():
    attempts = []

    def load():
        attempts.append(1)
        if len(attempts) == 1:
            raise OSError("busy")
        return Value()

    lazy = Lazy(load, keep=True)
    with pytest.raises(OSError, match="busy"), lazy.use():
        pass
    with lazy.use() as value:
        assert value is not None
    assert len(attempts) == 2


def test_unloading_what_nobody_uses():
    lazy = Lazy(Value, keep=True)
    lazy.unload()
    with lazy.use() as value:
        seen = weakref.ref(value)
    del value
    assert not _gone(seen)
    lazy.unload()
    assert _gone(seen)


def test_unloading_in_use_lets_go_when_the_last_user_leaves():
    lazy = Lazy(Value, keep=True)
    with lazy.use() as value:
        seen = weakref.ref(value)
        lazy.unload()
        with lazy.use() as other:
            assert other is value
        del other
        assert not _gone(seen)
    del value
    assert _gone(seen)
    # It was asked for once: the next value is kept again.
    with lazy.use() as value:
        seen = weakref.ref(value)
    del value
    assert not _gone(seen)
    assert Value.made == 2


def test_unloading_while_threads_use_it():
    """The last of them takes it along, whichever that is."""
    lazy = Lazy(Value, keep=True)
    inside, unloaded = threading.Barrier(5, timeout=GUARD), threading.Event()
    leave = [threading.Event() for _ in range(4)]
    left = [threading.Event() for _ in range(4)]
    seen = []

    def work(index):
        with lazy.use() as value:
            seen.append(weakref.ref(value))
            inside.wait()
            assert unloaded.wait(GUARD)
            assert leave[index].wait(GUARD)
            del value
        left[index].set()

    with ThreadPoolExecutor(4) as pool:
        users = [pool.submit(work, index) for index in range(4)]
        inside.wait()
        lazy.unload()
        unloaded.set()
        for index in (2, 0, 3):
            leave[index].set()
            assert left[index].wait(GUARD)
            assert not _gone(seen[0])
        leave[1].set()
        for user in users:
            user.result(GUARD)
    assert Value.made == 1
    assert _gone(seen[0])


def test_threads_share_one_load():
    lazy = Lazy(Value, keep=True)
    barrier = threading.Barrier(8, timeout=GUARD)

    def work(_):
        barrier.wait()
        with lazy.use() as value:
            return value

    with ThreadPoolExecutor(8) as pool:
        assert len({id(value) for value in pool.map(work, range(8))}) == 1
    assert Value.made == 1


def test_memory_that_was_freed_is_returned_before_the_next_value_comes(monkeypatch):
    done = []
    monkeypatch.setattr("sao_onnx.running.lazy.return_freed_memory", lambda: done.append("returned"))
    lazy = Lazy(lambda: done.append("loaded"), keep=False)
    with lazy.use():
        assert done == ["returned", "loaded"]


FREED = """
from sao_onnx.runtime.process_memory import resident_memory, return_freed_memory
blocks = [b"x" * 100_000 for _ in range(2000)]
del blocks[:-1]  # The last one is above the others.
before = resident_memory()
return_freed_memory()
print(before - resident_memory())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such call")
def test_freed_memory_is_returned():
    assert int(succeed([sys.executable, "-c", FREED])) > 100_000_000


class Gate:
    """Loads a value once it is let through, and counts how often it was asked to."""

    def __init__(self, error: Exception | None = None):
        self.begun, self.open = threading.Event(), threading.Event()
        self.error, self.calls = error, 0
        self.threads: list[threading.Thread] = []

    def __call__(self):
        self.calls += 1
        self.threads.append(threading.current_thread())
        self.begun.set()
        assert self.open.wait(GUARD)
        if self.error is not None:
            raise self.error
        return Value()


@pytest.mark.parametrize("keep", [True, False])
def test_loads_ahead_in_a_thread_and_once(keep):
    gate = Gate()
    lazy = Lazy(gate, keep=keep)
    with lazy.ahead() as wait:
        assert gate.begun.wait(GUARD)  # While this thread does something else.
        gate.open.set()
        wait()
        assert lazy.loaded
        with lazy.use() as value:
            seen = weakref.ref(value)
            del value
    assert (gate.calls, Value.made) == (1, 1)
    assert gate.threads != [threading.current_thread()]
    assert not gate.threads[0].is_alive()
    assert not gate.threads[0].daemon  # Or Python could end while it is inside of ONNX Runtime, which aborts it.
    assert _gone(seen) is not keep


def test_what_was_loaded_ahead_and_not_used_is_let_go():
    lazy = Lazy(Value, keep=False)
    with pytest.raises(RuntimeError, match="elsewhere"), lazy.ahead():
        raise RuntimeError("elsewhere")
    assert Value.made == 1
    assert not lazy.loaded
    kept = Lazy(Value, keep=True)
    with kept.ahead():
        pass
    assert kept.loaded


def test_use_waits_for_what_is_loaded_ahead():
    gate = Gate()
    lazy = Lazy(gate, keep=False)
    with ThreadPoolExecutor() as pool, lazy.ahead():
        assert gate.begun.wait(GUARD)

        def use():
            with lazy.use() as value:
                return value

        users = [pool.submit(use) for _ in range(3)]
        assert not any(user.done() for user in users)
        gate.open.set()
        assert len({user.result(GUARD) for user in users}) == 1
    assert gate.calls == 1


def test_unload_while_it_is_loaded_ahead():
    gate = Gate()
    lazy = Lazy(gate, keep=True)
    with ThreadPoolExecutor() as pool:
        with lazy.ahead():
            assert gate.begun.wait(GUARD)
            unloading = pool.submit(lazy.unload)
            gate.open.set()
            unloading.result(GUARD)
        # The block was a user.
        assert not lazy.loaded
    with lazy.use():
        assert gate.calls == 2


def test_an_error_ahead_is_raised_by_the_user():
    gate = Gate(ValueError("damaged"))
    gate.open.set()
    lazy = Lazy(gate, keep=False)
    with lazy.ahead() as wait:
        wait()
        assert not lazy.loaded
        with pytest.raises(ValueError, match="damaged"), lazy.use():
            pass
        assert gate.threads[-1] is threading.current_thread()
        gate.error = None  # There is memory again.
        with lazy.use():
            pass
    assert gate.calls == 3


def test_without_a_thread_it_is_loaded_when_used(monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    lazy = Lazy(Value, keep=False)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with lazy.ahead() as wait:
        wait()
        assert not lazy.loaded
        with lazy.use():
            assert Value.made == 1


def _warning():
    warn("old", SaoOnnxWarning)
    return Value()


def test_a_warning_ahead_waits_for_the_user():
    lazy = Lazy(_warning, keep=True)
    with lazy.ahead() as wait, warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        wait()
        assert not seen
        for _ in range(2):
            with lazy.use():
                pass
    assert [(str(one.message), one.category) for one in seen] == [("old", SaoOnnxWarning)]
    assert seen[0].filename != threading.__file__  # It is the program's line, not a thread's.


def test_a_warning_ahead_may_be_an_error():
    lazy = Lazy(_warning, keep=True)
    with lazy.ahead() as wait, warnings.catch_warnings():
        warnings.simplefilter("error")
        wait()
        for _ in range(2):
            with pytest.raises(SaoOnnxWarning, match="old"), lazy.use():
                pass
    assert not lazy.loaded


def test_warnings_of_a_value_that_was_not_used_are_forgotten():
    lazy = Lazy(_warning, keep=False)
    with lazy.ahead():
        pass
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with lazy.use():
            pass
    assert len(seen) == 1


def test_python_ends_while_a_value_is_loaded_ahead():
    """As after an error elsewhere: it waits, and ends as it should."""
    done = run(
        [
            sys.executable,
            "-c",
            "import sys, threading, time\n"
            "from sao_onnx.running.lazy import Lazy\n"
            "lazy = Lazy(lambda: (time.sleep(0.3), print('loaded')), keep=False)\n"
            "ahead = lazy.ahead()\n"
            "ahead.__enter__()\n"
            "sys.exit(7)",
        ]
    )
    assert (done.returncode, done.stdout) == (7, "loaded\n")


def test_together_in_order():
    both = threading.Barrier(3)

    def load(number):
        both.wait(GUARD)  # All are there at the same time.
        return number

    assert together([partial(load, number) for number in range(3)]) == [0, 1, 2]
    assert threading.active_count() == 1 or all(t.name != "sao-onnx-load" for t in threading.enumerate())


def test_together_raises_the_first_error_when_all_have_ended():
    ended = []

    def fail(number):
        ended.append(number)
        raise ValueError(number)

    with pytest.raises(ValueError, match=r"^1$"):
        together([partial(ended.append, 0), partial(fail, 1), partial(fail, 2)])
    assert sorted(ended) == [0, 1, 2]


def test_together_warns_in_the_callers_thread(monkeypatch):
    with pytest.warns(SaoOnnxWarning, match="old") as seen:
        together([Value, _warning])
    assert seen[0].filename != threading.__file__

    def refuse(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.warns(SaoOnnxWarning, match="old"):
        assert len(together([Value, _warning])) == 2
