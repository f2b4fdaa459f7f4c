"""The clips of a list, made on the machines of a Ray cluster by Ray Data: an engine in each of its actors, loaded once.

Ray works a lost part again, so a clip may be made twice. But it is written whole, by its one name, and what is there is left.
"""

from __future__ import annotations

import pickle
import socket
import threading
import time
import warnings
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sao_onnx.batch import cluster
from sao_onnx.batch.clips import Clips
from sao_onnx.batch.place import Place
from sao_onnx.batch.sent_bundle import SentBundle
from sao_onnx.batch.tasks import Answer, Files, Task
from sao_onnx.engine import Engine, opened_again
from sao_onnx.errors import BundleError, ClusterError, MissingRuntimeError, ProviderError, SaoOnnxWarning
from sao_onnx.planning.planner import uses_encoder
from sao_onnx.runtime.memory import estimate_peak
from sao_onnx.version import __version__

PROCESS = 180_000_000
"""Bytes that a process takes with Ray and its data library in it, beside what an engine takes. Measured with Ray 2.60."""

MOST_PARTS = 10_000
"""Of a list. Ray Data hands out parts, and what it remembers of each costs time; up to so many clips, each is one."""

RETRIES = 2
"""How often Ray begins a part again whose process or machine ended."""

IN_VAIN = 3
"""How often all that has no answer is begun, with these retries each, while nothing comes of any of it, until it counts as
failed: a clip that ends every process must come to an end itself, and one that was unlucky with its machines must not."""


SEEN_WITHIN = 70.0
"""Seconds until a file that one machine has written has to be seen by the others."""


@dataclass(frozen=True)
class Order:
    """What each actor is told. Plain data.

    Attributes:
        files: How clips are written.
        fingerprint: Of the bundle.
        arguments: Of `load`.
        version: Of sao-onnx.
        sent: The bundle, for machines that do not have it.
    """

    files: Files
    fingerprint: str
    arguments: Mapping[str, Any]
    version: str
    sent: SentBundle | None

    def opened(self) -> Engine:
        """The engine, on the machine of an actor.

        Raises:
            ClusterError: Another release of sao-onnx is installed there.
            BundleError: The bundle is not there, or another one.
        """
        if __version__ != self.version:
            raise ClusterError(f"sao-onnx is {__version__} there, and {self.version} here; install the same release")
        try:
            return opened_again(self.fingerprint, self.arguments)
        except BundleError as error:
            if self.sent is None:
                raise BundleError(f"{error}; or add --send-bundle") from error
        return opened_again(self.fingerprint, {**self.arguments, "model": str(self.sent.unpacked(self.fingerprint))})


class Maker:
    """An actor's part of the work: an engine that makes clips one after the other. Called by Ray Data with tables of tasks.

    What keeps it from working is told with its first task, because an actor that cannot begin would be begun again for ever.

    Args:
        order: What it is told.
    """

    def __init__(self, order: Order) -> None:
        self._machine = socket.gethostname()
        self._clips: Clips | None = None
        self._problem: Exception | None = None
        try:
            self._clips = Clips(order.opened(), order.files)
        except Exception as error:  # noqa: BLE001  Whatever it is, it is told.
            self._problem = error

    def __call__(self, table: Any) -> Any:
        """Tables with a column of tasks, as bytes, to tables with a column of answers."""
        import pyarrow

        answers = [pickle.dumps((self._machine, self._answer(pickle.loads(task)))) for task in table["task"].to_pylist()]
        return pyarrow.table({"answer": pyarrow.array(answers, pyarrow.binary())})

    def _answer(self, task: Task) -> Answer:
        if self._clips is None:
            return self._unable(task, self._problem)
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always", SaoOnnxWarning)
            answer = self._clips.make(task)
        if isinstance(answer.error, (BundleError, MissingRuntimeError, ProviderError)):
            # Found with the first clip. Every other line would fail here, too, and sooner than on the machines that work.
            answer = self._unable(task, answer.error)
        texts = tuple(str(one.message) for one in warned if issubclass(one.category, SaoOnnxWarning))
        return replace(answer, error=_sendable(answer.error), warned=texts)

    def _unable(self, task: Task, problem: Exception | None) -> Answer:
        return Answer(task.number, error=ClusterError(f"{self._machine} cannot make clips: {problem}"), ends=True)


def _sendable(error: Exception | None) -> Exception | None:
    """An error that arrives as what it was, or at least with its words."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001  Errors of any library.
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


@dataclass(frozen=True)
class Pool:
    """The actors.

    Attributes:
        first: How many there are room for now.
        most: How many there may be; None for as many as machines that come later have room for.
        threads: Of each.
        memory: Of each, in bytes.
    """

    first: int
    most: int | None
    threads: int
    memory: int


def on_ray(
    ray: Any,
    engine: Engine,
    files: Files,
    tasks: Iterable[Task],
    stop: threading.Event,
    *,
    jobs: int | None,
    threads: int | None,
    send_bundle: bool,
) -> Generator[Answer, None, None]:
    """Make clips on a cluster.

    Args:
        ray: What `cluster.connected` gives.
        engine: As it shall be on every machine; its own threads do not count.
        files: How clips are written: to a place that all machines reach.
        tasks: What is to be made, and was not there a moment ago.
        stop: Once it is set, no answer is waited for any longer. What is begun is dropped.
        jobs: Engines at the same time, at most; by default as many as there is room for, also on machines that come later.
        threads: Of each engine; by default the processors of the smallest machine.
        send_bundle: Send the bundle to machines that do not have it.

    Yields:
        The answer of each task, once, as they are made.

    Raises:
        ClusterError: The cluster has no room.
    """
    waiting = {task.number: task for task in tasks}
    pool = _pool(ray, engine, waiting.values(), jobs, threads)
    sent = SentBundle.of(engine.bundle, ray.put) if send_bundle else None
    order = Order(files, engine.bundle.fingerprint, {**engine.again, "threads": pool.threads}, __version__, sent)
    in_vain = 0
    while in_vain < IN_VAIN:
        before = len(waiting)
        yield from _answered(_pass(ray, order, list(waiting.values()), pool), waiting, files.place, stop)
        if stop.is_set() or not waiting:
            return
        in_vain = in_vain + 1 if len(waiting) == before else 0
    for task in waiting.values():
        ended = "was begun again and again, and each time its process or its machine came to an end"
        error = ClusterError(f"{files.place.path(task.name)} {ended}; is there too little memory for it?")
        yield Answer(task.number, error=error)


def _pool(ray: Any, engine: Engine, tasks: Iterable[Task], jobs: int | None, threads: int | None) -> Pool:
    found = cluster.machines(ray)
    threads = threads or min((int(each["CPU"]) for each in found), default=1)
    encoder = any(uses_encoder(engine.manifest, task.request) for task in tasks)
    memory = estimate_peak(engine.bundle, engine.precision, tuning=engine.tuning, keep_loaded=True, encoder=encoder)
    size = cluster.room(found, threads, memory + PROCESS)
    return Pool(size if jobs is None else min(size, jobs), jobs, threads, memory + PROCESS)


def _answered(
    arrived: Iterable[tuple[str, Answer]], waiting: dict[int, Task], place: Place, stop: threading.Event
) -> Iterator[Answer]:
    """The first answer of each task, which waits no longer then."""
    seen: set[str] = set()
    for machine, first in arrived:
        answer = first
        task = waiting.pop(answer.number, None)
        if task is None:
            continue  # A part that was worked twice.
        file = place.path(task.name)
        if answer.about is not None and machine not in seen and not _sees(place, task.name):
            problem = f"{machine} has made {file}, and it is not there from here; name a place that all machines share"
            answer = Answer(answer.number, error=ClusterError(problem), ends=True)
        elif answer.about is not None:
            seen.add(machine)
            # It was not there when the work began: where it was in the meantime, an attempt of ours had been cut off.
            answer = replace(answer, about={**answer.about, "made": True, "file": file})
        yield answer
        if answer.ends or stop.is_set():
            stop.set()
            return


def _sees(place: Place, name: str) -> bool:
    """Whether a file is there. Network file systems remember for a minute that it was not."""
    end = time.monotonic() + SEEN_WITHIN
    while not place.is_there(name):
        if time.monotonic() > end:
            return False
        time.sleep(1)
    return True


def _pass(ray: Any, order: Order, tasks: Sequence[Task], pool: Pool) -> Iterator[tuple[str, Answer]]:
    """The names of machines and their answers, as they come. Tasks whose processes ended too often have none."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.issue_detectors_config.detectors = []
    context.execution_no_progress_timeout_s = -1  # Clips can take hours, and machines be waited for.
    context.max_errored_blocks = -1  # What is lost is told here, line by line.
    parts = min(len(tasks), MOST_PARTS)
    answers = ray.data.from_items([{"task": pickle.dumps(task)} for task in tasks], override_num_blocks=parts).map_batches(
        Maker,
        fn_constructor_args=(order,),
        batch_size=1,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(
            min_size=1, max_size=pool.most, initial_size=min(pool.first, parts), max_tasks_in_flight_per_actor=1
        ),
        num_cpus=pool.threads,
        memory=pool.memory,
        ray_remote_args_fn=lambda: {"max_task_retries": RETRIES},
    )
    try:
        for table in answers.iter_batches(batch_size=None, batch_format="pyarrow"):
            yield from map(pickle.loads, table["answer"].to_pylist())
    except ray.exceptions.RayError as error:
        raise ClusterError(f"Ray has given up: {cluster.first_line(error)}; run it again for the rest") from error
