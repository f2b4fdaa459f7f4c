"""Options of `sao-onnx convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Checkpoint = Annotated[
    str,
    typer.Argument(
        metavar="CHECKPOINT",
        help="Folder with a configuration and weights (.safetensors, .ckpt), the weights in it, or a repository: "
        "owner/name, owner/name@revision or its address.",
        show_default=False,
    ),
]

Output = Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Bundle to write.", show_default=False)]

T5 = Annotated[
    str | None,
    typer.Option(
        "--t5",
        metavar="PLACE",
        help="Folder or repository of the T5 encoder.",
        show_default="the one that the configuration names",
    ),
]

Precisions = Annotated[
    list[str] | None,
    typer.Option("--precision", metavar="int8|fp32", help="May be given several times.", show_default="fp32"),
]

Configuration = Annotated[
    str | None,
    typer.Option(
        "--config",
        "--config-name",
        metavar="FILE",
        help="The configuration: its name beside the weights, or a file.",
        show_default="model_config.json, or the only one that fits",
    ),
]

Weights = Annotated[
    str | None,
    typer.Option(
        "--weights",
        "--weights-name",
        metavar="NAME",
        help="The weights' name.",
        show_default="model.safetensors, model.ckpt, or the only ones",
    ),
]

Base = Annotated[
    str | None,
    typer.Option(
        "--base",
        metavar="PLACE",
        help="Folder or repository of the model that it was made from, for parts that are missing.",
        show_default=False,
    ),
]

Ema = Annotated[bool, typer.Option("--ema/--no-ema", help="Averaged weights, where a snapshot has them.")]

Loras = Annotated[
    list[str] | None,
    typer.Option(
        "--lora",
        metavar="FILE[:STRENGTH]",
        help="LoRA to merge into the model, of stable-audio-tools or LoRAW, or a folder of PEFT; strength 1 is as it was "
        "trained. May be given several times.",
        show_default=False,
    ),
]
