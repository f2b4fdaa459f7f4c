"""Options of `sao-onnx serve`, each with its variable of the environment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sao_onnx.cli.command_options import MODEL_VARIABLE


def _env(name: str) -> str:
    return f"SAO_ONNX_SERVE_{name}"


Model = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        "-m",
        envvar=MODEL_VARIABLE,
        metavar="BUNDLE",
        help="Bundle; may be repeated, the first is the default.",
    ),
]

Host = Annotated[str, typer.Option(envvar=_env("HOST"), metavar="ADDRESS", help="Address to listen on.")]

Port = Annotated[int, typer.Option(envvar=_env("PORT"), min=0, max=65535, metavar="NUMBER", help="0 takes a free one.")]

Queue = Annotated[int, typer.Option(envvar=_env("QUEUE"), min=0, metavar="NUMBER", help="Clips that may wait.")]

Jobs = Annotated[
    int, typer.Option("--jobs", "-j", envvar=_env("JOBS"), min=1, metavar="NUMBER", help="Clips at the same time.")
]

Threads = Annotated[
    int | None,
    typer.Option(envvar=_env("THREADS"), min=1, metavar="NUMBER", help="Of all jobs together.", show_default="every processor"),
]

Precision = Annotated[
    str | None,
    typer.Option(
        envvar=_env("PRECISION"),
        metavar="int8|fp32",
        help="A precision that the bundle holds.",
        show_default="the bundle's",
    ),
]

KeyFile = Annotated[
    Path | None,
    typer.Option(envvar=_env("KEY_FILE"), metavar="FILE", help="File with the key that every request must carry."),
]

AllowOrigin = Annotated[
    list[str] | None,
    typer.Option(
        envvar=_env("ALLOW_ORIGIN"),
        metavar="ORIGIN",
        help="Pages of this origin may call, https://example.org; may be repeated.",
    ),
]

AllowHost = Annotated[
    list[str] | None,
    typer.Option(envvar=_env("ALLOW_HOST"), metavar="NAME", help="Another name that the server is called by; may be repeated."),
]

UnloadAfter = Annotated[
    float,
    typer.Option(
        envvar=_env("UNLOAD_AFTER"),
        min=0,
        metavar="SECONDS",
        help="Idle seconds after which memory is given back; 0: never.",
    ),
]

Keep = Annotated[
    float, typer.Option(envvar=_env("KEEP"), min=1, metavar="SECONDS", help="Seconds that a finished clip is kept.")
]

MaxSeconds = Annotated[
    float, typer.Option(envvar=_env("MAX_SECONDS"), min=0.1, metavar="SECONDS", help="Length that one request may ask for.")
]

MaxSteps = Annotated[
    int, typer.Option(envvar=_env("MAX_STEPS"), min=1, metavar="NUMBER", help="Steps that one request may ask for.")
]

Metrics = Annotated[
    bool,
    typer.Option("--metrics/--no-metrics", envvar=_env("METRICS"), help="Serve /metrics for Prometheus.", show_default=False),
]

Insecure = Annotated[
    bool,
    typer.Option(
        "--insecure/--no-insecure",
        envvar=_env("INSECURE"),
        help="Listen beyond this machine without a key.",
        show_default=False,
    ),
]
