from __future__ import annotations

import gc
import threading
import weakref

import pytest
from sao_onnx.running.stage import Stage

from tests.processes import GUARD


class Value:
    made = 0

    def __init__(self):
        type(self).made += 1


@pytest.fixture(autouse=True)
def _count():
    Value.made = 0


def test_loads_when_needed_and_once():
    stage = Stage(Value, keep=True)
    assert Value.made == 0
    with stage.use() as first:
        pass
    with stage.use() as second:
        assert second is first
    assert Value.made == 1


def test_drops_after_use():
    stage = Stage(Value, keep=False)
    with stage.use() as value:
        seen = weakref.ref(value)
        with stage.use() as other:
            assert other is value
        assert seen() is not None
    del value, other
    gc.collect()
    assert seen() is None
    with stage.use():
        assert Value.made == 2


def test_drops_when_its_user_fails():
    stage = Stage(Value, keep=False)
    with pytest.raises(RuntimeError), stage.use():
        raise RuntimeError
    with stage.use():
        assert Value.made == 2


def test_a_failed_load_is_tried_again():
    attempts = []

    def load():
        attempts.append(1)
        if len(attempts) == 1:
            raise OSError
        return Value()

    stage = Stage(load, keep=True)
    with pytest.raises(OSError), stage.use():  # noqa: PT011
        pass
    with stage.use() as value:
        assert value is not None


def test_close_waits_for_users():
    stage = Stage(Value, keep=True)
    with stage.use() as value:
        stage.drop()
        with stage.use() as other:
            assert other is value
    stage.drop()
    with stage.use():
        assert Value.made == 2


def test_threads_share_one_load():
    stage = Stage(Value, keep=True)
    barrier = threading.Barrier(8, timeout=GUARD)

    def work():
        barrier.wait()
        with stage.use():
            pass

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(GUARD)
    assert Value.made == 1
