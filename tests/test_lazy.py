from __future__ import annotations

import gc
import platform
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from sao_onnx.running.lazy import Lazy
from tests.processes import GUARD, succeed


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
