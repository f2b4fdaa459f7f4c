"""The `sao-onnx` command.

Results go to stdout, everything else to stderr. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 bad bundle, 130 interrupted.
The modules of the commands import at their top only what `--help` needs, so that `--help` is fast.
"""

from __future__ import annotations

from typing import Annotated

import typer

from sao_onnx.cli.batch import batch
from sao_onnx.cli.convert import convert
from sao_onnx.cli.doctor import doctor
from sao_onnx.cli.gen import gen
from sao_onnx.cli.inspect import inspect
from sao_onnx.cli.models import models
from sao_onnx.cli.serve import serve
from sao_onnx.cli.terminal import command, prepare_process
from sao_onnx.cli.tune import tune
from sao_onnx.cli.verify import verify
from sao_onnx.version import __version__

app = typer.Typer(name="sao-onnx", no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"sao-onnx {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and end.")
    ] = False,
) -> None:
    """Text to audio with Stable Audio Open Small on small machines: no PyTorch, no cloud."""


for _function in (gen, batch, serve, models, convert, inspect, verify, tune, doctor):
    app.command()(command(_function))


def main() -> None:
    """Entry point of the console script."""
    prepare_process()
    app()
