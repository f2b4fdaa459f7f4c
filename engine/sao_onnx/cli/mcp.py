"""`sao-onnx mcp`: sounds for assistants that speak the Model Context Protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sao_onnx.cli.command_options import FILES, MACHINE, MODEL_VARIABLE
from sao_onnx.cli.signals import end_at_signals
from sao_onnx.cli.terminal import note


def mcp(
    folder: Annotated[
        Path | None,
        typer.Argument(help="Folder that clips are saved in and taken from.", show_default="sao-onnx in your folder of music"),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            envvar=MODEL_VARIABLE,
            metavar="BUNDLE",
            help="Bundle that may be used; may be repeated, the first is the default.",
            show_default="all in `sao-onnx models`",
        ),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            metavar="int8|fp32",
            help="A precision that the bundle holds.",
            show_default="the bundle's",
            rich_help_panel=MACHINE,
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="NUMBER", help="Of all jobs together.", show_default="every processor", rich_help_panel=MACHINE
        ),
    ] = None,
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", min=1, metavar="NUMBER", help="Clips at the same time.", rich_help_panel=MACHINE)
    ] = 1,
    unload_after: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="Idle seconds after which memory is given back; 0: never.",
            rich_help_panel=MACHINE,
        ),
    ] = 300,
    max_seconds: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="Length that one call may ask for.", rich_help_panel=FILES)
    ] = 120,
    max_steps: Annotated[
        int, typer.Option(min=1, metavar="NUMBER", help="Steps that one call may ask for.", rich_help_panel=FILES)
    ] = 200,
) -> None:
    """Let an assistant make sounds: a server of the Model Context Protocol on stdin and stdout.

    The assistant starts it; its configuration names this command and the folder.
    """
    import contextlib
    import os
    import warnings

    from sao_onnx.errors import MissingExtraError
    from sao_onnx.places import expand_home, music_path
    from sao_onnx.serve.settings import Limits, Settings
    from sao_onnx.stages.tokenizer import PromptWarning

    try:
        import anyio

        from sao_onnx.mcp.server import all_models, serve
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("sao_onnx"):
            raise
        raise MissingExtraError("the Model Context Protocol", "mcp 2 or later", "mcp") from error
    # It quotes the prompt, which has no place in the log of another program.
    warnings.simplefilter("ignore", PromptWarning)
    settings = Settings(
        models=tuple(model or ()) or all_models(),
        precision=precision,
        threads=threads,
        jobs=jobs,
        unload_after=unload_after or None,
        limits=Limits(seconds=max_seconds, steps=max_steps),
    )
    path = music_path() if folder is None else expand_home(folder)
    if folder is None:
        with contextlib.suppress(OSError):  # What is missing then is said below.
            path.parent.mkdir(parents=True, exist_ok=True)
    # What waits for the client's next line cannot be interrupted otherwise.
    end_at_signals()
    note(f"clips go to {path} ({', '.join(settings.models)})")
    if not anyio.run(serve, settings, path):
        # Python cannot end in order beneath a network that runs.
        os._exit(0)
