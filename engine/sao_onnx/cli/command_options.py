"""Options that several commands share. Those of a request are declared with it, and derived in `request_options`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sao_onnx.option import SOUND

FILES, MACHINE, SHOWN = "Files", "This machine", "What is shown"
"""Headings of help, beside those of the options of a request."""

MODEL_VARIABLE = "SAO_ONNX_MODEL"

_MODEL = "A bundle: its folder, or its name in `sao-onnx models`."
_DEFAULT = "sao-tiny, or as `models default` says"

Model = Annotated[
    str | None,
    typer.Option(
        "--model", "-m", envvar=MODEL_VARIABLE, metavar="BUNDLE", help=_MODEL, show_default=_DEFAULT, rich_help_panel=SOUND
    ),
]
Bundle = Annotated[str | None, typer.Argument(envvar=MODEL_VARIABLE, metavar="BUNDLE", help=_MODEL, show_default=_DEFAULT)]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, for an error too.", rich_help_panel=SHOWN)]
Force = Annotated[bool, typer.Option("--force", help="Replace files that exist.", rich_help_panel=FILES)]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show nothing but errors and the result.", rich_help_panel=SHOWN)]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Show what would be made and what it costs, and make nothing.", rich_help_panel=SHOWN),
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show each stage and its costs.", rich_help_panel=SHOWN)]

# What is generated.
Prompt = Annotated[
    str | None,
    typer.Argument(metavar="PROMPT", help="A description of the sound; - to read it from stdin.", show_default=False),
]
Count = Annotated[
    int,
    typer.Option("--count", "-n", metavar="NUMBER", help="Variations, each with the next seed.", min=1, rich_help_panel=SOUND),
]
From = Annotated[
    Path | None,
    typer.Option(
        "--from",
        metavar="FILE",
        help="Make the clip of this file again, from the settings in its tags.",
        show_default=False,
        rich_help_panel=SOUND,
    ),
]
Surprise = Annotated[
    bool,
    typer.Option(
        "--surprise",
        help="Draw a prompt from those that the model brings; the same seed, the same prompt.",
        rich_help_panel=SOUND,
    ),
]

# How it is written.
Output = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="File to write: .wav, .flac, .ogg, .opus or .mp3; {prompt}, {seed} and {index} are filled in; "
        "- for a WAV on stdout.",
        show_default="{prompt}-{seed}.wav",
        rich_help_panel=FILES,
    ),
]
Bits = Annotated[
    int | None,
    typer.Option(
        "--bits",
        metavar="16|24|32",
        help="Bits of a sample; 32, in .wav alone, is floating point.",
        show_default="16",
        rich_help_panel=FILES,
    ),
]
Metadata = Annotated[
    bool, typer.Option("--metadata/--no-metadata", help="Write prompt and settings into the file.", rich_help_panel=FILES)
]
Plot = Annotated[
    Path | None,
    typer.Option(
        "--plot",
        metavar="FILE",
        help="Draw waveforms and spectrogram: .png, .svg or .pdf.",
        show_default=False,
        rich_help_panel=FILES,
    ),
]
Preview = Annotated[
    Path | None,
    typer.Option(
        "--preview",
        metavar="FILE",
        help="While sampling, keep writing the first two seconds so far to a WAV.",
        show_default=False,
        rich_help_panel=FILES,
    ),
]
Play = Annotated[bool, typer.Option("--play/--no-play", help="Play the clip.", show_default=False, rich_help_panel=FILES)]

# How it is run.
Threads = Annotated[
    int | None,
    typer.Option("--threads", metavar="NUMBER", help="Threads.", show_default="every processor", rich_help_panel=MACHINE),
]
Precision = Annotated[
    str | None,
    typer.Option(
        "--precision",
        metavar="int8|fp32",
        help="A precision that the bundle holds.",
        show_default="its best",
        rich_help_panel=MACHINE,
    ),
]
