"""`sao-onnx batch`: a list of requests to a folder of clips."""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sao_onnx.cli import command_options as o
from sao_onnx.cli.names import fields, file_name
from sao_onnx.cli.request_options import read_options
from sao_onnx.cli.results import describe, print_result, require_writable, save
from sao_onnx.cli.terminal import FAILED, in_background, note, progress_bar

if TYPE_CHECKING:
    from collections.abc import Callable

    from sao_onnx.cli.request_file import Line
    from sao_onnx.engine import Engine
    from sao_onnx.request import Request


@dataclass(frozen=True)
class Task:
    """A clip to be made.

    Attributes:
        number: Of its line in the list, from 1.
        path: The file that it goes to.
        request: What is asked for.
    """

    number: int
    path: Path
    request: Request


@dataclass(frozen=True)
class Naming:
    """How the clips of a list are named, seeded and written.

    Attributes:
        folder: For the clips.
        name: Of each file, with fields to be filled in.
        seed: Of the first request, counted on for the others; None for seeds of their own.
        bits: Of a sample.
        sidecar: A JSON file is written beside each clip.
        force: Replace files that exist.
    """

    folder: Path
    name: str
    seed: int | None
    bits: int | None
    sidecar: bool
    force: bool


def batch(
    file: Annotated[str, typer.Argument(help="Requests, one a line: .txt, .csv or .jsonl; - for stdin.", show_default=False)],
    folder: Annotated[Path, typer.Option("--output", "-o", help="Folder for the clips; made if it is not there.")] = Path(),
    name: Annotated[
        str, typer.Option("--name", help="Of each file; {prompt}, {seed} and {index} are filled in.")
    ] = "{index:03}-{prompt}.wav",
    format: Annotated[
        str | None, typer.Option("--format", help="text, csv or jsonl.", show_default="from the suffix, else text")
    ] = None,
    model: o.Model = None,
    seed: Annotated[
        int | None,
        typer.Option("--seed", help="Seed of the first clip; each following clip has the next one.", show_default="random"),
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", help="Clips at the same time.", min=1)] = 1,
    threads: Annotated[
        int | None, typer.Option("--threads", help="Of all jobs together.", show_default="every processor")
    ] = None,
    precision: o.Precision = None,
    bits: o.Bits = None,
    metadata: o.Metadata = True,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    force: o.Force = False,
) -> None:
    """Generate a clip for each line of a list; run again, it makes those that are not there yet.

    In text, a line is a prompt. CSV names its columns in the first line, JSON Lines name the fields of each object: prompt,
    output (a file name), and the options of gen (seconds, seed, steps, negative_prompt, ...).
    """
    from sao_onnx.errors import RequestError, SaoOnnxError
    from sao_onnx.runtime.memory import require_memory

    if "seed" in fields(name) and seed is None:
        raise RequestError("a name with {seed} needs --seed, or a batch that was interrupted could not find its clips again")
    lines = _lines(file, format)
    engine = _open(model, precision, jobs, threads)
    _make_folder(folder)
    naming = Naming(folder, name, seed, bits, as_json, force)
    tasks, done, failed = _tasks(engine, lines, naming)
    initial = any(task.request.init_audio is not None for task in tasks)
    together = min(jobs, max(1, len(tasks)))
    require_memory(engine.bundle, engine.precision, tuning=engine.tuning, keep_loaded=True, encoder=initial, jobs=together)

    def work(report: Callable[[tuple[Task, dict[str, Any] | None, str]], None]) -> None:
        from sao_onnx.running.many import in_order

        def make(task: Task) -> dict[str, Any]:
            clip = engine.generate(task.request)
            save(clip, task.path, force=force, bits=bits, metadata=metadata, sidecar=as_json)
            return describe(clip, engine, task.path)

        for task, result in in_order(make, tasks, jobs, ahead=len(tasks)):
            try:
                report((task, result(), ""))
            except SaoOnnxError as error:
                report((task, None, str(error)))

    made = 0
    with progress_bar(not quiet) as progress:
        progress.update("clips", 0, len(tasks))
        for finished, (task, about, problem) in enumerate(in_background(work), start=1):
            if about is None:
                note(f"line {task.number}: {problem}")
            else:
                made += 1
                print_result(about, as_json=as_json)
            progress.update("clips", finished, len(tasks))
    failed += len(tasks) - made
    if not quiet:
        note(f"{made} made, {done} there before, {failed} failed")
    if failed:
        raise typer.Exit(FAILED)


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
    except OSError as error:
        raise SaoOnnxError(f"{folder} cannot be made a folder: {error.strerror or error}") from error


def _lines(file: str, format: str | None) -> list[Line]:
    from typing import get_args

    from sao_onnx.cli.request_file import FORMAT_BY_SUFFIX, ListFormat, read_lines
    from sao_onnx.errors import SaoOnnxError

    chosen = FORMAT_BY_SUFFIX.get(Path(file).suffix.lower(), "text") if format is None else format
    for known in get_args(ListFormat):
        if known == chosen:
            break
    else:
        raise typer.BadParameter(f"--format is {format!r}, known: {', '.join(get_args(ListFormat))}")
    try:
        text = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        lines = read_lines(text.decode("utf-8-sig"), known)
    except OSError as error:
        raise SaoOnnxError(f"{file} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise SaoOnnxError(f"{file} is not UTF-8 text: {error}") from error
    if not lines:
        raise SaoOnnxError(f"{file} holds no requests")
    return lines


def _tasks(engine: Engine, lines: list[Line], naming: Naming) -> tuple[list[Task], int, int]:
    """What is to be made, how many clips are there already, and how many lines cannot be used; those are reported."""
    from sao_onnx.errors import RequestError, SaoOnnxError

    tasks: list[Task] = []
    taken: set[Path] = set()
    done = failed = 0
    for index, line in enumerate(lines, start=1):
        try:
            task = _task(line, index, naming)
            if task.path in taken:
                raise RequestError(f"{task.path} is the file of another line, too")
            if task.path.is_file() and not naming.force and _is_clip_of(task.path, task.request):
                done += 1
                continue
            require_writable(task.path, naming.bits, naming.force, sidecar=naming.sidecar)
            with warnings.catch_warnings():
                # They come again with the clip.
                warnings.simplefilter("ignore")
                engine.plan(task.request)
        except SaoOnnxError as error:
            failed += 1
            note(f"line {line.number}: {error}")
        except typer.BadParameter as error:
            failed += 1
            note(f"line {line.number}: {error.message}")
        else:
            tasks.append(task)
            taken.add(task.path)
    return tasks, done, failed


def _task(line: Line, index: int, naming: Naming) -> Task:
    """The request of a line and its file."""
    from sao_onnx.errors import RequestError
    from sao_onnx.request import Request

    if line.problem:
        raise RequestError(line.problem)
    written = dict(line.options)
    output = written.pop("output", None)
    options = read_options(written)
    if naming.seed is not None:
        options = {"seed": naming.seed + index - 1, **options}
    given = file_name(naming.name, prompt=line.prompt, seed=options.get("seed") or 0, index=index)
    return Task(line.number, naming.folder / (str(output) if output else given), Request.from_options(line.prompt, options))


def _is_clip_of(path: Path, request: Request) -> bool:
    """Whether a file was made of the prompt of a request; audio without metadata is taken for it."""
    from sao_onnx.audio.files import read_tags
    from sao_onnx.errors import AudioFileError
    from sao_onnx.planning.loops import with_tempo
    from sao_onnx.provenance import read_provenance

    try:
        read_tags(path)
    except AudioFileError:
        return False
    try:
        return read_provenance(path).prompt == with_tempo(request.prompt, request.bpm)
    except AudioFileError:
        return True
