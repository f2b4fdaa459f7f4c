"""All commands, and how one is run. They import at their top only what `--help` needs, so that `--help` is fast."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from sao_onnx.cli.batch import batch
from sao_onnx.cli.bench import bench
from sao_onnx.cli.config import config
from sao_onnx.cli.convert import convert
from sao_onnx.cli.doctor import doctor
from sao_onnx.cli.gen import gen
from sao_onnx.cli.help import Command, Group, examples
from sao_onnx.cli.inspect import inspect
from sao_onnx.cli.mcp import mcp
from sao_onnx.cli.models import add, default, models, remove
from sao_onnx.cli.results import USAGE_ERROR, print_error
from sao_onnx.cli.serve import serve
from sao_onnx.cli.terminal import FAILED, command, note, prepare_process
from sao_onnx.cli.tune import tune
from sao_onnx.cli.verify import verify
from sao_onnx.errors import SaoOnnxError, memory_errors
from sao_onnx.version import __version__

EXAMPLES: Mapping[Callable[..., None], tuple[str, ...]] = {
    gen: (
        'sao-onnx gen "128 BPM tech house drum loop"',
        "sao-onnx gen rain --seconds 3 --seed 7 -o rain.flac",
        'sao-onnx gen "house loop" --bpm 120 --bars 2 --count 4 -o "take {index}.wav"',
        'sao-onnx gen "choir" --init-audio voice.wav --strength 0.5',
    ),
    batch: (
        "sao-onnx batch list.txt -o clips",
        "sao-onnx batch - --format jsonl --json < requests.jsonl",
        "sao-onnx batch list.csv -o /shared/clips --shard 3/20",
        "sao-onnx batch list.csv -o /shared/clips --ray head:6379 --threads 4",
    ),
    serve: ("sao-onnx serve", "sao-onnx serve --host 0.0.0.0 --key-file key --model sao-small"),
    mcp: ("sao-onnx mcp ~/Music/clips", "sao-onnx mcp ~/Music/clips --model sao-small"),
    convert: (
        "sao-onnx convert stabilityai/stable-audio-open-small -o sao --precision int8",
        "sao-onnx convert checkpoint -o rainy --lora rain.safetensors:0.8",
    ),
    tune: ("sao-onnx tune sao-small", "sao-onnx tune --show"),
    doctor: ("sao-onnx doctor -m sao-small",),
    bench: ("sao-onnx bench", "sao-onnx bench -m sao-small --report board.json"),
    inspect: ("sao-onnx inspect sao-small",),
    verify: ("sao-onnx verify sao-small",),
    config: ("sao-onnx config --init", "sao-onnx config"),
}
"""The commands in the order of the help, and what each of them shows at the end of its own."""

NAMES = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(
    name="sao-onnx",
    cls=Group,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings=NAMES,
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"sao-onnx {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_version, is_eager=True, help="Show the version and end.")
    ] = False,
) -> None:
    """Text to audio with Stable Audio Open Small on small machines: no PyTorch, no cloud."""


for _function, _lines in EXAMPLES.items():
    app.command(cls=Command, epilog=examples(_lines))(command(_function))

_models = typer.Typer(cls=Group, rich_markup_mode=None, pretty_exceptions_enable=False)
_models.callback(invoke_without_command=True)(command(models))
for _function in (add, remove, default):
    _models.command(cls=Command)(command(_function))
app.add_typer(_models, name="models")


def run() -> int:
    """Run the command that this process was started for.

    Returns:
        Its exit code.
    """
    prepare_process()
    try:
        with memory_errors():
            code = app(standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
    except USAGE_ERROR as error:
        _show_usage_error(error)
        return int(error.exit_code)
    except SaoOnnxError as error:
        note(f"error: {error}")
        return FAILED
    except BrokenPipeError:  # Nobody reads stdout any longer.
        return FAILED
    return int(code or 0)


def _show_usage_error(error: Any) -> None:
    """What is wrong with a command line, and how to find out more."""
    if "--json" in sys.argv[1:]:
        print_error(error)
        return
    shown = io.StringIO()
    error.show(file=shown)
    for line in shown.getvalue().splitlines():
        note(line)
