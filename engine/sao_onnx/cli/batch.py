"""`sao-onnx batch`: a list of requests to a folder of clips."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from sao_onnx.cli import batch_options as b
from sao_onnx.cli import command_options as o
from sao_onnx.cli.signals import end_now
from sao_onnx.cli.streams import nothing_on_stderr, results_alone
from sao_onnx.cli.terminal import FAILED, note, pace_bar

if TYPE_CHECKING:
    from sao_onnx.batch.clips import Clips
    from sao_onnx.batch.lists import Line
    from sao_onnx.batch.pace import Pace
    from sao_onnx.batch.place import Place
    from sao_onnx.batch.shard import Shard
    from sao_onnx.batch.tasks import Answer, Task
    from sao_onnx.cli.batch_answers import Answers
    from sao_onnx.engine import Engine

T = TypeVar("T", "Line", "Task")

HEAD_CHECK, HEAD_CHECKS = 5.0, 4
"""Seconds between two looks at the head of a cluster, and how many of them in a row must be in vain."""

LINE: ContextVar[int | None] = ContextVar("LINE", default=None)
"""Number of the line that a thread works on."""


def batch(
    file: b.File,
    place: b.Place = ".",
    name: b.Name = "{index:03}-{prompt}.wav",
    format: b.Format = None,
    model: o.Model = None,
    seed: b.Seed = None,
    jobs: b.Jobs = None,
    threads: b.Threads = None,
    shard: b.Shard = None,
    ray: b.Ray = None,
    send_bundle: b.SendBundle = False,
    precision: o.Precision = None,
    bits: o.Bits = None,
    metadata: o.Metadata = True,
    as_json: b.AsJson = False,
    quiet: o.Quiet = False,
    force: o.Force = False,
) -> None:
    """Generate a clip for each line of a list; run again, it makes those that are not there yet.

    In text, a line is a prompt. CSV names its columns in the first line, JSON Lines name the fields of each object: prompt,
    output (a file name), and the options of gen (seconds, seed, steps, negative_prompt, ...).

    All lines of a file are checked before the first clip. Lines from stdin are taken as they come, and each result is printed
    as soon as it is made. With --json, every line is answered, unless the batch ends before it: {"line": 1, "made": true,
    "file": ...}, "made" is false where the same clip was there before; {"line": 1, "error": {"type": ..., "message": ...}}
    where there is none.
    """
    from sao_onnx.batch.clips import Clips
    from sao_onnx.batch.pace import Pace
    from sao_onnx.batch.places import open_place
    from sao_onnx.batch.shard import Shard
    from sao_onnx.batch.tasks import Files
    from sao_onnx.cli.batch_answers import Answers
    from sao_onnx.errors import SaoOnnxError

    if send_bundle and ray is None:
        raise typer.BadParameter("--send-bundle goes with --ray")
    files = Files(open_place(place), name, seed, bits, metadata, sidecar=as_json, force=force)
    part = Shard.read("1/1" if shard is None else shard)
    lines, live = _lines(file, format, at_once=ray is not None)
    if ray is None:
        engine = _open(model, precision, jobs or 1, threads, tuned=shard is None)
    else:
        engine = _open(model, precision, 1, None, tuned=False)
    files.place.make()
    clips = Clips(engine, files)
    answers = Answers(as_json)
    tasks = None if live else _tasks(clips, lines, part, answers)
    before, stop = answers.given, threading.Event()
    pace = Pace(None if tasks is None else len(tasks))
    with _lines_in_warnings(), pace_bar(not quiet) as show, contextlib.ExitStack() as held:
        if ray is not None and tasks:
            from sao_onnx.batch.on_ray import on_ray

            answers.to = held.enter_context(results_alone())
            cluster = held.enter_context(_cluster(ray, files.place))
            run = on_ray(cluster, engine, files, tasks, stop, jobs=jobs, threads=threads, send_bundle=send_bundle)
        else:
            _require_memory(engine, tasks or (), jobs or 1 if tasks is None else min(jobs or 1, max(1, len(tasks))))
            if tasks is None:
                run = _here(clips.answer, part.of(lines), jobs or 1, stop)
            else:
                run = _here(clips.make, tasks, jobs or 1, stop)
        held.enter_context(contextlib.closing(run))
        _carry_out(run, answers, stop, pace, show)
    if not answers.given and part.count == 1:
        raise SaoOnnxError(f"{file} holds no requests")
    if answers.failed or not quiet:
        left = 0 if tasks is None else len(tasks) - (answers.given - before)
        note(f"{answers.made} made, {answers.there} there before, {answers.failed} failed" + (f", {left} left" if left else ""))
    if answers.failed:
        raise typer.Exit(FAILED)


def _carry_out(
    run: Iterable[Answer], answers: Answers, stop: threading.Event, pace: Pace, show: Callable[[Pace], None]
) -> None:
    """Print each answer as soon as it is there.

    Args:
        run: The answers.
        answers: Prints them.
        stop: Is set where no further clip is to be begun.
        pace: Counts them.
        show: Shows that.
    """
    from sao_onnx.errors import SaoOnnxWarning
    from sao_onnx.warn import warn

    unheard = None
    show(pace)
    for answer in run:
        LINE.set(answer.number)
        for warned in answer.warned:
            warn(warned, SaoOnnxWarning)
        try:
            answers.give(answer)
        except OSError as error:
            # Nobody reads the answers any longer. What is begun is finished, and no more.
            unheard = error
        if answer.ends or unheard is not None:
            stop.set()
        pace.count(made=answer.about is not None and bool(answer.about["made"]))
        show(pace)
    if unheard is not None:
        raise unheard


def _here(work: Callable[[T], Answer], items: Iterable[T], jobs: int, stop: threading.Event) -> Generator[Answer, None, None]:
    """Answer lines or tasks on this machine, as they are made; no further one is begun once `stop` is set."""
    from sao_onnx.running.many import many

    def known(item: T) -> Answer:
        LINE.set(item.number)
        return work(item)

    return (result() for _, result in many(known, items, jobs, stop=stop))


@contextlib.contextmanager
def _cluster(address: str, place: Place) -> Iterator[Any]:
    """Ray, connected. Afterwards nobody of ours writes any longer, and nothing half written is left."""
    from sao_onnx.batch.cluster import connected, head

    over = threading.Event()
    try:
        with contextlib.ExitStack() as held:
            with nothing_on_stderr():
                ray = held.enter_context(connected(address))
            threading.Thread(target=_end_with, args=(head(ray), over), daemon=True).start()
            yield ray
    finally:
        over.set()
        place.tidy()


def _end_with(head: tuple[str, int], over: threading.Event) -> None:
    """Say that the head of a cluster is gone. Ray ends this process then, and does not say why."""
    from sao_onnx.batch.cluster import takes_connections

    silent = 0
    while not over.wait(HEAD_CHECK):
        silent = 0 if takes_connections(head) else silent + 1
        if silent == HEAD_CHECKS and not over.is_set():
            told = (
                "error: the head of the Ray cluster does not answer any longer; what is made stays, run it again for the rest"
            )
            end_now(FAILED, told)


def _tasks(clips: Clips, lines: Iterable[Line], part: Shard, answers: Answers) -> list[Task]:
    """What is to be made of a list. Lines that cannot be used, and those whose clips are there, are answered."""
    from sao_onnx.batch.tasks import Answer

    tasks = []
    for line in lines:
        if not part.holds(line):
            clips.reserve(line)
            continue
        found = clips.checked(line)
        if not isinstance(found, Answer):
            tasks.append(found)
        elif found.ends and found.error is not None:
            raise found.error
        else:
            answers.give(found)
    return tasks


def _require_memory(engine: Engine, tasks: Iterable[Task], jobs: int) -> None:
    """Refuse what does not fit into the memory of this machine."""
    from sao_onnx.planning.planner import uses_encoder
    from sao_onnx.runtime.memory import require_memory

    encoder = any(uses_encoder(engine.manifest, task.request) for task in tasks)
    require_memory(engine.bundle, engine.precision, tuning=engine.tuning, keep_loaded=True, encoder=encoder, jobs=jobs)


@contextlib.contextmanager
def _lines_in_warnings() -> Iterator[None]:
    """Let warnings say which line they are about."""
    show = warnings.showwarning

    def show_with_line(message: Warning | str, *about: Any, **named: Any) -> None:
        number = LINE.get()
        show(message if number is None else f"line {number}: {message}", *about, **named)

    warnings.showwarning = show_with_line
    try:
        yield
    finally:
        warnings.showwarning = show


def _open(model: str | None, precision: str | None, jobs: int, threads: int | None, *, tuned: bool) -> Engine:
    """The engine, with its share of the threads for each job.

    Args:
        model: A bundle.
        precision: One that it holds.
        jobs: Clips at the same time.
        threads: Of all jobs together.
        tuned: For one job, use what was found best on this machine, which may be another precision than elsewhere.
    """
    from typing import cast

    import sao_onnx
    from sao_onnx.bundle.manifest import Precision
    from sao_onnx.bundle.names import find
    from sao_onnx.runtime.processor import available_processors, usable_threads

    total = available_processors() if threads is None else usable_threads(threads)
    several = jobs > 1 or threads is not None
    share = max(1, total // jobs) if several else None
    return sao_onnx.load(find(model), precision=cast("Precision | None", precision), threads=share, tuned=tuned)


def _lines(file: str, format: str | None, *, at_once: bool) -> tuple[Iterable[Line], bool]:
    """The requests of a list, and whether others may still be coming. Those of a file are there at once.

    Args:
        file: The list; - for stdin.
        format: How it is written; by default its suffix tells.
        at_once: Wait for the end of stdin, too.
    """
    from typing import get_args

    from sao_onnx.batch.lists import FORMAT_BY_SUFFIX, OTHER_LISTS, ListFormat, open_list
    from sao_onnx.errors import SaoOnnxError

    suffix = Path(file).suffix.lower()
    if format is None and suffix in OTHER_LISTS:
        raise typer.BadParameter(
            f"{file} is no text with a prompt on each line; save it as .csv or .jsonl, or name its --format"
        )
    chosen = FORMAT_BY_SUFFIX.get(suffix, "text") if format is None else format
    for known in get_args(ListFormat):
        if known == chosen:
            break
    else:
        raise typer.BadParameter(f"--format is {format!r}, known: {', '.join(get_args(ListFormat))}")
    lines, live = open_list(file, known)
    if live and not at_once:
        return lines, True
    found = list(lines)
    if not found:
        raise SaoOnnxError(f"{file} holds no requests")
    return found, False
