"""The measurement from its beginning to its end."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sao_onnx.bundle.bundle import Bundle
from sao_onnx.engine import Engine, load
from sao_onnx.measuring import board
from sao_onnx.measuring.board import Moment, Usage
from sao_onnx.measuring.operations import Operations, clip_operations
from sao_onnx.measuring.rates import SPENT, Clock, Rates, measured
from sao_onnx.measuring.report import FORMAT, Clip, Hardware, Load, Model, Report, Software, Stage
from sao_onnx.measuring.stages import expected_clip, measured_clip, measured_stages, prompt_tokens
from sao_onnx.runtime.machine import Machine, describe_machine, int8_matmul_instructions
from sao_onnx.runtime.memory import require_memory
from sao_onnx.runtime.native_operators import operators_of
from sao_onnx.runtime.sessions import int8_matmul_overflows, runtime
from sao_onnx.runtime.tuning import saved_tuning
from sao_onnx.version import __version__

BUDGET = 120.0
"""Seconds that the whole measurement should take. A clip that would take longer than what is left is not made."""

PARTS = 10
"""How many parts the measurement has at most, for its progress: five rates, three stages, the operations, a clip."""


@dataclass(frozen=True)
class Begun:
    """A part of the measurement begins.

    Attributes:
        part: What it measures.
        index: Its number, from 0, of `PARTS`.
    """

    part: str
    index: int


def measure(
    model: str | Path | None = None,
    *,
    budget: float = BUDGET,
    spent: float = SPENT,
    root: Path = board.ROOT,
    clock: Clock = time.perf_counter,
) -> Iterator[Begun | Report]:
    """Measure this machine with a bundle.

    Args:
        model: A bundle, as for `load`.
        budget: Seconds for all, about.
        spent: Seconds for which each thing is repeated.
        root: Of the file system in which the kernel describes the machine; another one is for tests.
        clock: Tells the time in seconds.

    Yields:
        Each part before it is measured, and in the end the report.

    Raises:
        BundleError: A graph cannot be loaded.
        NotEnoughMemoryError: A clip does not fit into memory.
    """
    return _Measurement(model, budget, spent, root, clock).run()


class _Measurement:
    def __init__(self, model: str | Path | None, budget: float, spent: float, root: Path, clock: Clock) -> None:
        self._budget, self._spent, self._root, self._clock = budget, spent, root, clock
        self._engine = load(model, keep_loaded=False)
        require_memory(self._engine.bundle, self._engine.precision, tuning=self._engine.tuning)
        self._machine = describe_machine()
        self._began = clock()
        self._moments = [self._moment("")]
        self._part = ""
        self._parts = 0

    def run(self) -> Iterator[Begun | Report]:
        """All parts, and the report."""
        root, before = self._root, board.usage(self._root)
        load_average, swap, own = board.load_average(root), board.swap_used(root), time.process_time()
        stages: dict[str, Stage] = {}
        rates: Rates | None = None
        for found in measured(self._machine.cores, self._machine.available, spent=self._spent):
            if isinstance(found, Rates):
                rates = found
            else:
                yield self._begin(found)
        for made in measured_stages(self._engine, spent=self._spent, clock=self._clock):
            if isinstance(made, Stage):
                stages[made.name] = made
            else:
                yield self._begin(made)
        yield self._begin("operations")
        operations = self._operations()
        yield self._begin("clip")
        clip = self._clip(stages, operations)
        self._moments.append(self._moment(self._part))
        if rates is None:
            raise RuntimeError("no rates were measured")
        elapsed = self._clock() - self._began
        others, stolen, swapped = _between(before, board.usage(root), time.process_time() - own, elapsed)
        yield Report(
            FORMAT,
            _software(self._machine, self._engine.bundle),
            _hardware(self._machine),
            board.settings(root),
            Load(load_average, others, stolen, swap, swapped),
            rates,
            _model(self._engine, operations),
            tuple(stages.values()),
            clip,
            tuple(self._moments),
        )

    def _begin(self, part: str) -> Begun:
        """Note the state of the machine after the last part, and begin another."""
        if self._part:
            self._moments.append(self._moment(self._part))
        self._part, self._parts = part, self._parts + 1
        return Begun(part, self._parts - 1)

    def _moment(self, part: str) -> Moment:
        return board.moment(part, self._clock() - self._began, self._root)

    def _operations(self) -> Operations:
        bundle, tuning = self._engine.bundle, self._engine.tuning
        return clip_operations(bundle, tuning.dit, tuning.decoder, tokens=prompt_tokens(bundle))

    def _clip(self, stages: dict[str, Stage], operations: Operations) -> Clip:
        expected = expected_clip(self._engine, stages, operations.steps)
        left = self._budget - (self._clock() - self._began)
        return expected if expected.seconds + expected.load > left else measured_clip(self._engine)


def _software(machine: Machine, bundle: Bundle) -> Software:
    overflows, about = int8_matmul_overflows(), runtime()
    products = int8_matmul_instructions(machine, overflows)
    python, operators = platform.python_version(), operators_of(bundle)
    return Software(__version__, python, about["onnxruntime"], about["build"], products, overflows, operators)


def _hardware(machine: Machine) -> Hardware:
    return Hardware(
        machine.system,
        machine.architecture,
        machine.processor,
        machine.features,
        machine.cores,
        machine.memory,
        machine.available,
    )


def _model(engine: Engine, operations: Operations) -> Model:
    bundle, tuning = engine.bundle, engine.tuning
    return Model(
        bundle.fingerprint,
        bundle.manifest.window_seconds,
        tuning.dit,
        tuning.decoder,
        bundle.stage_weight("denoiser", tuning.dit),
        tuning.threads,
        tuning.workers,
        saved_tuning(bundle) is not None,
        operations,
    )


def _between(
    before: Usage | None, after: Usage | None, own: float, elapsed: float
) -> tuple[float | None, float | None, int | None]:
    """Processors that others used, processors that were stolen, bytes swapped, between two readings.

    Args:
        before: The first reading; None if there is none.
        after: The second one.
        own: Seconds of processors that this process used.
        elapsed: Seconds between them.
    """
    if before is None or after is None or elapsed <= 0:
        return None, None, None
    others = max(0.0, after.busy - before.busy - own) / elapsed
    return others, (after.stolen - before.stolen) / elapsed, after.swapped - before.swapped
