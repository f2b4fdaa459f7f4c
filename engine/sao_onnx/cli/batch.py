"""`sao-onnx batch`: a list of requests to a folder of clips."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeVar

import typer

from sao_onnx.cli import command_options as o
from sao_onnx.cli.names import fields
from sao_onnx.cli.terminal import FAILED, note, progress_bar
from sao_onnx.places import expand_home
from sao_onnx.request import MAX_SEED

if TYPE_CHECKING:
    from sao_onnx.cli.batch_answers import Answers
    from sao_onnx.cli.batch_clips import Clips, Task
    from sao_onnx.cli.request_file import Line
    from sao_onnx.engine import Engine


class _Numbered(Protocol):
    @property
    def number(self) -> int: ...


T = TypeVar("T", bound=_Numbered)

LINE: ContextVar[int | None] = ContextVar("LINE", default=None)
"""Number of the line that a thread works on."""


def batch(
    file: Annotated[
        str, typer.Argument(help="Requests, one a line: .txt, .csv or .jsonl; - for stdin, as they come.", show_default=False)
    ],
    folder: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="Folder for the clips; made if it is not there.")
    ] = Path(),
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="Of each file; {prompt}, {seed} and {index} are filled in.")
    ] = "{index:03}-{prompt}.wav",
    format: Annotated[
        str | None,
        typer.Option("--format", metavar="text|csv|jsonl", help="Of the list.", show_default="from the suffix, else text"),
    ] = None,
    model: o.Model = None,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed",
            metavar="NUMBER",
            help="Seed of the first clip; each following clip has the next one.",
            min=0,
            max=MAX_SEED,
            show_default="random",
        ),
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", metavar="NUMBER", help="Clips at the same time.", min=1)] = 1,
    threads: Annotated[
        int | None, typer.Option("--threads", metavar="NUMBER", help="Of all jobs together.", show_default="every processor")
    ] = None,
    precision: o.Precision = None,
    bits: o.Bits = None,
    metadata: o.Metadata = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for each line of the list.")] = False,
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
    from sao_onnx.cli.batch_answers import Answers
    from sao_onnx.cli.batch_clips import Clips, Files
    from sao_onnx.errors import RequestError, SaoOnnxError
    from sao_onnx.planning.planner import uses_encoder
    from sao_onnx.runtime.memory import require_memory

    if "seed" in fields(name) and seed is None:
        raise RequestError("a name with {seed} needs --seed, or a batch that was interrupted could not find its clips again")
    files = Files(expand_home(folder), name, seed, bits, metadata, sidecar=as_json, force=force)
    lines, live = _lines(file, format)
    engine = _open(model, precision, jobs, threads)
    _make_folder(files.folder)
    clips = Clips(engine, files)
    answers = Answers(as_json, clips.is_the_end)
    tasks = [] if live else _tasks(clips, lines, answers)
    initial = any(uses_encoder(engine.manifest, task.request) for task in tasks)
    together = jobs if live else min(jobs, max(1, len(tasks)))
    require_memory(engine.bundle, engine.precision, tuning=engine.tuning, keep_loaded=True, encoder=initial, jobs=together)
    total = None if live else len(tasks)
    before = answers.given
    with _lines_in_warnings(), progress_bar(not quiet) as progress:

        def show(done: int) -> None:
            progress.update("clips", done, total)

        if live:
            _carry_out(clips.answer, lines, jobs, answers, show)
        else:
            _carry_out(clips.make, tasks, jobs, answers, show)
    if not answers.given:
        raise SaoOnnxError(f"{file} holds no requests")
    if answers.failed or not quiet:
        left = 0 if total is None else total - (answers.given - before)
        note(f"{answers.made} made, {answers.there} there before, {answers.failed} failed" + (f", {left} left" if left else ""))
    if answers.failed:
        raise typer.Exit(FAILED)


def _carry_out(
    work: Callable[[T], dict[str, Any]], items: Iterable[T], jobs: int, answers: Answers, show: Callable[[int], None]
) -> None:
    """Work on tasks or lines, and answer each as soon as it is made.

    Args:
        work: Makes a clip, in a thread; returns what is answered.
        items: In order.
        jobs: How many at the same time.
        answers: Prints them.
        show: Takes how many are finished.
    """
    from sao_onnx.running.many import as_made

    def known(item: T) -> dict[str, Any]:
        LINE.set(item.number)
        return work(item)

    stop = threading.Event()
    unheard = None
    show(0)
    for finished, (item, result) in enumerate(as_made(known, items, jobs, stop), start=1):
        try:
            if not answers.give(item.number, result):
                stop.set()
        except OSError as error:
            # Nobody reads the answers any longer. What is begun is finished, and no more.
            unheard = error
            stop.set()
        show(finished)
    if unheard is not None:
        raise unheard


def _tasks(clips: Clips, lines: Iterable[Line], answers: Answers) -> list[Task]:
    """What is to be made of a list. Lines that cannot be used, and those whose clips are there, are answered."""
    tasks = []
    for line in lines:
        try:
            task, there = clips.checked(line)
        except Exception as error:
            if clips.is_the_end(error):
                raise
            answers.problem(line.number, error)
        else:
            if there is None:
                tasks.append(task)
            else:
                answers.result(line.number, there)
    return tasks


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


def _open(model: str | None, precision: str | None, jobs: int, threads: int | None) -> Engine:
    """The engine, with its share of the threads for each job."""
    from typing import cast

    import sao_onnx
    from sao_onnx.bundle.manifest import Precision
    from sao_onnx.bundle.names import find
    from sao_onnx.runtime.processor import available_processors, usable_threads

    total = available_processors() if threads is None else usable_threads(threads)
    several = jobs > 1 or threads is not None
    share = max(1, total // jobs) if several else None
    return sao_onnx.load(find(model), precision=cast("Precision | None", precision), threads=share)


def _make_folder(folder: Path) -> None:
    from sao_onnx.errors import SaoOnnxError

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise SaoOnnxError(f"{folder} cannot be made a folder: {getattr(error, 'strerror', None) or error}") from error


def _lines(file: str, format: str | None) -> tuple[Iterable[Line], bool]:
    """The requests of a list, and whether others may still be coming. Those of a file are there at once."""
    from typing import get_args

    from sao_onnx.cli.request_file import FORMAT_BY_SUFFIX, OTHER_LISTS, ListFormat, open_list
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
    if live:
        return lines, True
    found = list(lines)
    if not found:
        raise SaoOnnxError(f"{file} holds no requests")
    return found, False
