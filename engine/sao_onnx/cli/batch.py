"""`sao-onnx batch`: a list of requests to a folder of clips."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sao_onnx.cli import options as o
from sao_onnx.cli.clips import require_writable, save, tell
from sao_onnx.cli.names import fields, file_name
from sao_onnx.cli.terminal import FAILED, in_background, note, progress_bar
from sao_onnx.cli.words import to_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from sao_onnx.cli.request_file import Line
    from sao_onnx.clip import Clip
    from sao_onnx.request import Options


@dataclass(frozen=True)
class Task:
    """A clip to be made."""

    line: Line
    path: Path
    options: Options


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
        int | None, typer.Option("--seed", help="Of the first request, counted on for the others.", show_default="drawn")
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
    output (a file name), and the options of gen (seconds, seed, steps, negative, ...).
    """
    import sao_onnx
    from sao_onnx.bundle.names import find
    from sao_onnx.runtime.memory import require_memory
    from sao_onnx.runtime.sessions import default_threads

    if "seed" in fields(name) and seed is None:
        raise sao_onnx.RequestError(
            "a name with {seed} needs --seed, or a batch that was interrupted could not find its clips again"
        )
    lines = _lines(file, format)
    total = default_threads() if threads is None else threads
    several = jobs > 1 or threads is not None
    engine = sao_onnx.load(find(model), precision=precision, threads=max(1, total // jobs) if several else None)
    require_memory(engine.bundle, engine.precision, keep_loaded=True)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise sao_onnx.Error(f"{folder} cannot be made a folder: {error.strerror or error}") from error
    tasks, done, failed = _plan(lines, folder, name, seed, bits, force)

    def work(found: Callable[[tuple[Task, Clip | None, str]], None]) -> None:
        from concurrent.futures import ThreadPoolExecutor

        def make(task: Task) -> None:
            try:
                clip = engine.generate(task.line.prompt, **task.options)
                save(clip, task.path, force=force, bits=bits, metadata=metadata, beside=as_json)
                found((task, clip, ""))
            except sao_onnx.Error as error:
                found((task, None, str(error)))

        with ThreadPoolExecutor(jobs) as pool:
            for future in [pool.submit(make, task) for task in tasks]:
                future.result()

    made = 0
    with progress_bar(not quiet) as progress:
        progress.update("clips", 0, len(tasks))
        for finished, (task, clip, problem) in enumerate(in_background(work), start=1):
            if clip is None:
                failed += 1
                note(f"line {task.line.number}: {problem}")
            else:
                made += 1
                tell(clip, engine, task.path, as_json=as_json)
            progress.update("clips", finished, len(tasks))
    if not quiet:
        note(f"{made} made, {done} there before, {failed} failed")
    if failed:
        raise typer.Exit(FAILED)


def _lines(file: str, format: str | None) -> list[Line]:
    from typing import get_args

    from sao_onnx.cli.request_file import FORMATS, Format, read_lines
    from sao_onnx.errors import Error

    chosen = FORMATS.get(Path(file).suffix.lower(), "text") if format is None else format
    for known in get_args(Format):
        if known == chosen:
            break
    else:
        raise typer.BadParameter(f"--format is {format!r}, known: {', '.join(get_args(Format))}")
    try:
        text = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        lines = read_lines(text.decode("utf-8-sig"), known)
    except OSError as error:
        raise Error(f"{file} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise Error(f"{file} is not UTF-8 text: {error}") from error
    if not lines:
        raise Error(f"{file} holds no requests")
    return lines


def _plan(
    lines: list[Line], folder: Path, name: str, seed: int | None, bits: int | None, force: bool
) -> tuple[list[Task], int, int]:
    """What is to be made, how many clips are there already, and how many lines cannot be used; those are reported."""
    from sao_onnx.errors import Error, RequestError

    tasks: list[Task] = []
    taken: set[Path] = set()
    done = failed = 0
    for index, line in enumerate(lines, start=1):
        try:
            if line.problem:
                raise RequestError(line.problem)
            words = dict(line.words)
            output = words.pop("output", None)
            options = to_options(words)
            if seed is not None:
                options = {"seed": seed + index - 1, **options}
            given = file_name(name, prompt=line.prompt, seed=options.get("seed") or 0, index=index)
            path = folder / (str(output) if output else given)
            if path in taken:
                raise RequestError(f"{path} is the file of another line, too")
            if path.is_file() and not force and _is_clip_of(path, line.prompt):
                done += 1
                continue
            require_writable(path, bits, force, beside=False)
            tasks.append(Task(line, path, options))
            taken.add(path)
        except Error as error:
            failed += 1
            note(f"line {line.number}: {error}")
        except typer.BadParameter as error:
            failed += 1
            note(f"line {line.number}: {error.message}")
    return tasks, done, failed


def _is_clip_of(path: Path, prompt: str) -> bool:
    """Whether a file was made of a prompt; audio without metadata is taken for it."""
    from sao_onnx.audio.files import read_tags
    from sao_onnx.errors import AudioFileError
    from sao_onnx.provenance import recipe_of

    try:
        read_tags(path)
    except AudioFileError:
        return False
    try:
        return recipe_of(path).prompt == prompt
    except AudioFileError:
        return True
