"""Processes that were made by fork: they have all of the memory, but of the threads only the one that forked.

A lock that another thread held is held for ever in such a process, and whatever waits for another thread waits for ever. Python
calls this module in the new process, from the first time on that something asks for it.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import threading
import weakref
from collections.abc import Generator
from types import TracebackType
from typing import Protocol, TypeVar

from sao_onnx.errors import ForkedError

T = TypeVar("T")


class Renewed(Protocol):
    """Something that is made as new in a process that was forked."""

    def renew(self) -> None:
        """Forget what belongs to the process before. Called while there is one thread; must not raise."""


_renewed: weakref.WeakSet[Renewed] = weakref.WeakSet()
_lasting: weakref.WeakSet[object] = weakref.WeakSet()
_processes = [os.getpid()]
"""This one, after those that it was forked from."""


def forks() -> int:
    """How often this process was forked from another one since something was first told to this module."""
    return len(_processes) - 1


def renew_after_fork(thing: Renewed) -> None:
    """Have something renewed in every process that is forked from this one, for as long as it is there."""
    _watch()
    _renewed.add(thing)


def keep_after_fork(thing: object) -> None:
    """Have something never end in processes that are forked from this one: its end waits for threads that are not there.

    Its memory is shared with the process before until one of the two writes to it.
    """
    _watch()
    _lasting.add(thing)


def in_one_process(work: Generator[T, None, None]) -> Generator[T, None, None]:
    """What a generator yields, in the process that asked for the first of it.

    Raises:
        ForkedError: It is continued in a process that was forked meanwhile. The threads that worked for it are not there.
    """
    with contextlib.closing(work):
        begun_after = forks()
        _watch()
        for made in work:
            yield made
            if forks() != begun_after:
                raise ForkedError(
                    "this work was begun in the process that this one was forked from, where its threads are; begin it anew, "
                    'or fork before it, or start processes with the method "spawn"'
                )


class Lock:
    """A lock for `with` blocks that is free in a process that was forked, whoever held it before."""

    def __init__(self) -> None:
        self._lock = self._held = threading.Lock()
        self._watched = False

    def renew(self) -> None:
        """A lock that nobody holds."""
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        if not self._watched:
            renew_after_fork(self)
            self._watched = True
        lock = self._lock
        lock.acquire()
        self._held = lock

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._held.release()  # Also where the process was forked by whoever holds it: then it is not the lock of now.


@functools.cache
def _watch() -> None:
    """Have Python call `_forked`. Windows has no forks."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_forked)


def _forked() -> None:
    _processes.append(os.getpid())
    for thing in list(_lasting):
        # A reference that nobody has lets it outlast even Python's end.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))
    for thing in list(_renewed):
        thing.renew()
