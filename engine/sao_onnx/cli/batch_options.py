"""Options of `sao-onnx batch` that no other command has."""

from __future__ import annotations

from typing import Annotated

import typer

from sao_onnx.request import MAX_SEED

File = Annotated[
    str,
    typer.Argument(
        metavar="FILE", help="Requests, one a line: .txt, .csv or .jsonl; - for stdin, as they come.", show_default=False
    ),
]

Place = Annotated[
    str,
    typer.Option(
        "--output", "-o", metavar="PLACE", help="Folder for the clips, made if it is not there; or as in s3://bucket/clips."
    ),
]

Name = Annotated[
    str, typer.Option("--name", metavar="NAME", help="Of each file; {prompt}, {seed}, {index} and {hash} are filled in.")
]

Format = Annotated[
    str | None,
    typer.Option("--format", metavar="text|csv|jsonl", help="Of the list.", show_default="from the suffix, else text"),
]

Seed = Annotated[
    int | None,
    typer.Option(
        "--seed",
        metavar="NUMBER",
        help="Seed of the first clip; each following clip has the next one.",
        min=0,
        max=MAX_SEED,
        show_default="random",
    ),
]

Jobs = Annotated[
    int | None,
    typer.Option(
        "--jobs", "-j", metavar="NUMBER", help="Clips at the same time.", min=1, show_default="1; with --ray, what fits"
    ),
]

Threads = Annotated[
    int | None,
    typer.Option(
        "--threads", metavar="NUMBER", help="Of all jobs together; with --ray, of each.", show_default="every processor"
    ),
]

Shard = Annotated[
    str | None,
    typer.Option("--shard", metavar="I/N", help="Only every N-th line, from the I-th on.", show_default="every line"),
]

Ray = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="[HOST:PORT|auto|local]",
        help="On the machines of a Ray cluster; without an address, of one that is found, or else made here (local: made).",
        show_default=False,
    ),
]

SendBundle = Annotated[bool, typer.Option("--send-bundle", help="With --ray: send the bundle to machines that do not have it.")]

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object for each line of the list.")]
