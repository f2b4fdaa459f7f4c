"""Shared by all commands: messages, exit codes for errors, work in the background, progress."""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import queue
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TextIO, TypeVar

import typer

from sao_onnx.batch.pace import Pace, time_left
from sao_onnx.cli.declared import COMMANDS
from sao_onnx.cli.results import print_error
from sao_onnx.cli.signals import end_if_interrupted, end_interrupted, leave
from sao_onnx.cli.streams import prepare_streams, printable

if TYPE_CHECKING:
    from sao_onnx.bundle.manifest import Graph
    from sao_onnx.cli.settings import Applied

T = TypeVar("T")

FAILED = 1
WRONG_USAGE = 2
BAD_BUNDLE = 3

CONTEXT = "command_context"
"""The parameter in which typer tells a command what its options come from."""

TELLING = 0.05
"""The fraction from which the time so far tells how long the rest will take."""


def prepare_process() -> None:
    """Set up the process for a command: its streams, and warnings of one line each."""
    from sao_onnx.errors import SaoOnnxWarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, SaoOnnxWarning):
            note(f"warning: {message}")

    prepare_streams()
    warnings.showwarning = show
    warnings.simplefilter("always", SaoOnnxWarning)


def note(text: str) -> None:
    """Print a line to stderr, if anybody reads it; without what would steer a terminal."""
    with contextlib.suppress(OSError):
        typer.echo(printable(text), err=True)


def command(function: Callable[..., None]) -> Callable[..., None]:
    """A command that uses the settings of the user, and ends the process with a message and an exit code when it fails."""
    name = function.__name__
    COMMANDS[name] = function
    signature = inspect.signature(function, eval_str=True)
    context_name = next((p.name for p in signature.parameters.values() if p.annotation is typer.Context), "")

    @functools.wraps(function)
    def guarded(**options: Any) -> None:
        context: typer.Context = options[context_name] if context_name else options.pop(CONTEXT)
        applied: list[Applied] = []
        with _failing(options, applied):
            from sao_onnx.cli.settings import settled

            given = [option for option in options if _on_command_line(context, option)]
            values, found = settled(name, given, options)
            applied += found
            context.obj = tuple(applied)
            function(**values)

    if not context_name:
        about = inspect.Parameter(CONTEXT, inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
        parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in signature.parameters.values()]
        guarded.__signature__ = signature.replace(parameters=[about, *parameters])  # type: ignore[attr-defined]
        guarded.__annotations__ = {parameter.name: parameter.annotation for parameter in (about, *parameters)}
    return guarded


def _on_command_line(context: typer.Context, option: str) -> bool:
    source = context.get_parameter_source(option)
    return source is not None and source.name == "COMMANDLINE"


@contextlib.contextmanager
def _failing(options: Mapping[str, Any], applied: Sequence[Applied]) -> Iterator[None]:
    """Ends the process with a message and an exit code when the block fails.

    Args:
        options: Of the command.
        applied: Settings that it uses.
    """
    from sao_onnx.errors import BundleError, ProviderError, RequestError, SaoOnnxError, SaoOnnxWarning, memory_errors

    if options.get("quiet"):
        warnings.simplefilter("ignore", SaoOnnxWarning)
    try:
        with memory_errors():
            yield
    except KeyboardInterrupt:
        end_interrupted()
    except SaoOnnxError as error:
        end_if_interrupted()
        if options.get("as_json"):
            print_error(error)
        else:
            note(f"error: {error}")
        if isinstance(error, BundleError):  # Or nobody would know why it is this one.
            for setting in applied:
                if setting.key == "model" and not options.get("as_json"):
                    note(_named_by(setting))
        code = BAD_BUNDLE if isinstance(error, BundleError) else FAILED
        raise typer.Exit(WRONG_USAGE if isinstance(error, (RequestError, ProviderError)) else code) from None


def _named_by(setting: Applied) -> str:
    """Where the model comes from, or the models, as a server has them."""
    if not isinstance(setting.value, list):
        return f"the model {setting.value} is named by {setting.source}"
    if len(setting.value) == 1:
        return f"the model {setting.value[0]} is named by {setting.source}"
    hint = "; words are one model where they are the path of a folder" if setting.source in os.environ else ""
    return f"the models {', '.join(setting.value[:-1])} and {setting.value[-1]} are named by {setting.source}{hint}"


def in_background(work: Callable[[Callable[[T], None]], None]) -> Iterator[T]:
    """Run a function in another thread and yield what it reports, so that Ctrl-C is noticed while a graph runs.

    When the caller is interrupted, the thread goes on until the process ends.

    Args:
        work: Is called with a function that takes each report.
    """
    arrived: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()

    def run() -> None:
        try:
            work(lambda item: arrived.put(("item", item)))
            arrived.put(("end", None))
        except BaseException as error:  # noqa: BLE001  Whatever it is, the caller raises it.
            arrived.put(("error", error))

    thread = threading.Thread(target=run, daemon=True)
    leave([thread])
    thread.start()
    while True:
        try:
            # With a timeout: on Windows, a wait without one does not notice Ctrl-C.
            kind, value = arrived.get(timeout=0.2)
        except queue.Empty:
            continue
        if kind == "item":
            yield value
        elif kind == "error":
            raise value
        else:
            return


def redrawn() -> bool:
    """Whether stderr is a terminal on which a line can be drawn anew. A dumb one could only add to it."""
    return sys.stderr.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")


def _shares_terminal() -> bool:
    """Whether results go to a terminal, too, and have to step around the bar. Otherwise they must not go to the bar's."""
    return sys.stdout is not None and sys.stdout.isatty()


class ProgressBar(Protocol):
    """Shows what is done, how much of it, and how long it will take."""

    def update(self, stage: str, done: int, total: int | None) -> None:
        """Show that `done` of `total` parts are finished (None: not known yet). Another `stage` begins a bar of its own."""


class _Silent:
    def update(self, stage: str, done: int, total: int | None) -> None:
        pass


@contextlib.contextmanager
def progress_bar(wanted: bool) -> Iterator[ProgressBar]:
    """A progress bar on stderr, if that is a terminal and the bar is wanted. Otherwise nothing is shown."""
    if not (wanted and redrawn()):
        yield _Silent()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeRemainingColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description:<24}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=_shares_terminal()) as display:
        tasks: dict[str, TaskID] = {}

        class Bar:
            def update(self, stage: str, done: int, total: int | None) -> None:
                if stage not in tasks:
                    tasks[stage] = display.add_task(printable(stage), total=total)
                for name, task in tasks.items():
                    display.update(task, visible=name == stage)
                display.update(tasks[stage], completed=done, total=total)

        yield Bar()


@contextlib.contextmanager
def pace_bar(wanted: bool) -> Iterator[Callable[[Pace], None]]:
    """A function that shows on stderr, if that is a terminal, how many clips are done, how fast, and when the rest will be."""
    if not (wanted and redrawn()):
        yield lambda pace: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

    columns = (SpinnerColumn(), TextColumn("clips"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[told]}"))
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=_shares_terminal()) as display:
        task = display.add_task("", total=None, told="")
        yield lambda pace: display.update(task, completed=pace.done, total=pace.total, told=str(pace))


@contextlib.contextmanager
def fraction_bar(wanted: bool) -> Iterator[Callable[[str, float], None]]:
    """A function that shows what is done and which fraction of the time is over, on stderr if that is a terminal.

    The remaining time is computed from the time so far and the fraction.
    """
    if not (wanted and redrawn()):
        yield lambda stage, fraction: None
        return
    import time

    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description:<28}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[left]}"),
    )
    start = time.monotonic()
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=_shares_terminal()) as display:
        task = display.add_task("", total=1.0, left="")

        def show(stage: str, fraction: float) -> None:
            seconds = (time.monotonic() - start) * (1 - fraction) / fraction if fraction >= TELLING else None
            display.update(task, description=stage, completed=fraction, left="" if seconds is None else time_left(seconds))

        yield show


def closeness(graph: Graph) -> str:
    """How close a graph is to its PyTorch module, as text."""
    if graph.tolerance is not None:
        return f"{graph.max_error:.1e} from PyTorch (allowed {graph.tolerance:.0e})"
    return f"{graph.snr:.1f} dB" + ("" if graph.min_snr is None else f" (wanted {graph.min_snr:g})")


def megabytes(size: int | None) -> str:
    """A size as text."""
    if size is None:
        return "unknown"
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
