"""What the processor and the memory can do at most, measured with one large matmul and one large copy."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from sao_onnx.bundle.manifest import Precision
from sao_onnx.runtime.large_matmul import OPERATIONS, large_matmul
from sao_onnx.runtime.sessions import SessionFactory

Clock = Callable[[], float]

SPENT = 1.0
"""Seconds for which something is repeated. The shortest time counts, because other programs can only make it longer."""

BLOCK = 256_000_000
"""Bytes of the block that is copied: larger than the caches of every desktop processor."""

SHARE_OF_MEMORY = 8
"""The block is at most this part of the memory that is available, because a copy takes it twice."""


@dataclass(frozen=True)
class Rates:
    """Peak rates.

    Attributes:
        int8_one: Multiplications and additions in a second in 8 bits with one thread, sums in 32 bits.
        int8_all: The same with all threads.
        fp32_one: In single precision with one thread.
        fp32_all: The same with all threads.
        copy: Bytes in a second that a copy with one thread reads and writes together.
    """

    int8_one: float
    int8_all: float
    fp32_one: float
    fp32_all: float
    copy: float


def shortest(work: Callable[[], object], *, spent: float = SPENT, clock: Clock = time.perf_counter) -> float:
    """The shortest time of some work in seconds.

    A first run, which may be slower, does not count. Then it is repeated until `spent` seconds are over, at least once.
    """
    work()
    times: list[float] = []
    while not times or sum(times) < spent:
        began = clock()
        work()
        times.append(clock() - began)
    return min(times)


def matmul_rate(precision: Precision, threads: int, *, spent: float = SPENT) -> float:
    """Operations in a second of a large matmul, run with the options of the engine's sessions.

    Args:
        precision: "int8" or "fp32".
        threads: Threads of a run.
        spent: As for `shortest`.
    """
    model, inputs = large_matmul(precision)
    session = SessionFactory(threads).own_session(model)
    return OPERATIONS / shortest(lambda: session.run(None, inputs), spent=spent)


def copy_rate(available: int | None, *, spent: float = SPENT) -> float:
    """Bytes in a second that NumPy's copy of a large block reads and writes.

    Args:
        available: Memory that can be taken, in bytes; None if unknown.
        spent: As for `shortest`.
    """
    size = BLOCK if available is None else min(BLOCK, available // SHARE_OF_MEMORY)
    source = np.ones(max(size, 1), np.uint8)
    target = np.empty_like(source)
    return 2 * len(source) / shortest(lambda: np.copyto(target, source), spent=spent)


def measured(threads: int, available: int | None, *, spent: float = SPENT) -> Iterator[str | Rates]:
    """Measure all rates. Yields the name of each before it is measured, and in the end the rates.

    On one processor, all threads are one, which is measured once: two figures would differ by chance.
    """
    found: dict[str, float] = {}
    ways: tuple[tuple[str, Precision, int], ...] = (
        ("int8_one", "int8", 1),
        ("int8_all", "int8", threads),
        ("fp32_one", "fp32", 1),
        ("fp32_all", "fp32", threads),
    )
    for name, precision, count in ways:
        if name.endswith("_all") and threads == 1:
            found[name] = found[f"{precision}_one"]
            continue
        yield f"{precision} matmul, {count} thread{'s' if count > 1 else ''}"
        found[name] = matmul_rate(precision, count, spent=spent)
    yield "memory"
    yield Rates(**found, copy=copy_rate(available, spent=spent))
