"""What faults are done to: copies of the committed miniature, and engines over it that no fault can keep busy for long."""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import sao_onnx
import sao_onnx.engine
from sao_onnx.bundle.manifest import Precision
from sao_onnx.events import Event
from sao_onnx.planning.plan import Plan
from tests.conftest import MINIATURE

MEMORY = 6_000_000_000
"""Bytes that a process which tries faults may have. One that would take more must be refused, as on a small machine."""

MOST_STEPS = 12
MOST_WINDOWS = 2


class QuickEngine(sao_onnx.engine.Engine):
    """An engine that plans all that it is asked for and makes no more of it than takes a moment."""

    def run(self, planned: Plan) -> Generator[Event, None, None]:
        windows = planned.windows[:MOST_WINDOWS]
        steps = [window.sigmas if window.steps <= MOST_STEPS else (window.sigmas[0], window.sigmas[-1]) for window in windows]
        cheap = tuple(replace(window, sigmas=sigmas) for window, sigmas in zip(windows, steps, strict=True))
        yield from super().run(replace(planned, windows=cheap))


def limit_memory() -> None:
    """Let this process have no more than `MEMORY`."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def quick_engines() -> None:
    """From now on, `load` gives quick engines in this process, which has `MEMORY` and knows nothing of its user."""
    limit_memory()
    sao_onnx.engine.Engine = QuickEngine  # type: ignore[misc]
    os.environ["XDG_STATE_HOME"] = os.environ["XDG_DATA_HOME"] = tempfile.mkdtemp()
    os.environ.pop("SAO_ONNX_MODEL", None)


@functools.cache
def pristine() -> Path:
    """A copy of the miniature's bundle that nothing changes."""
    return Path(shutil.copytree(MINIATURE / "bundle", Path(tempfile.mkdtemp()) / "bundle"))


def linked_bundle(folder: Path) -> Path:
    """A bundle of its own for a fault. To change a file, `put` another one in its place."""
    return Path(shutil.copytree(pristine(), folder, copy_function=os.link))


def put(path: Path, data: bytes) -> None:
    """A new file in the place of another, which may have other names."""
    path.unlink(missing_ok=True)
    path.write_bytes(data)


@functools.cache
def engine(precision: Precision = "int8") -> QuickEngine:
    """An engine that faults share."""
    opened = sao_onnx.engine.load(pristine(), precision=precision, threads=1)
    assert isinstance(opened, QuickEngine)
    return opened


@functools.cache
def recording() -> np.ndarray[Any, Any]:
    """Half a second of a tone, float32 [2, frames] at 44.1 kHz."""
    times = np.arange(22050) / 44100
    return np.stack([np.sin(2 * np.pi * 220 * times), np.sin(2 * np.pi * 330 * times)]).astype(np.float32) * 0.3


def sound(samples: Any) -> str:
    """What is wrong with the samples of a clip; "" where nothing is."""
    if not isinstance(samples, np.ndarray) or samples.dtype != np.float32 or samples.ndim != 2 or not samples.size:
        return f"samples are {type(samples).__name__} {getattr(samples, 'dtype', '')} {getattr(samples, 'shape', '')}"
    return "" if np.isfinite(samples).all() else "samples that are not finite"
