"""Options that several commands share. Those of a request are declared with it, and derived in `request_options`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

MODEL_VARIABLE = "SAO_ONNX_MODEL"

_MODEL = "A bundle: its folder, or its name in `sao-onnx models`."
_DEFAULT = "sao-tiny, or as `models default` says"

Model = Annotated[str | None, typer.Option("--model", "-m", envvar=MODEL_VARIABLE, help=_MODEL, show_default=_DEFAULT)]
Bundle = Annotated[str | None, typer.Argument(envvar=MODEL_VARIABLE, help=_MODEL, show_default=_DEFAULT)]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, for an error too.")]
Force = Annotated[bool, typer.Option("--force", help="Replace files that exist.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show nothing but errors and the result.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show each stage and its costs.")]

# What is generated.
Prompt = Annotated[str | None, typer.Argument(help="A description of the sound; - to read it from stdin.", show_default=False)]
Count = Annotated[int, typer.Option("--count", "-n", help="Variations, each with the next seed.", min=1)]
From = Annotated[
    Path | None,
    typer.Option("--from", help="Make the clip of this file again, from the settings in its tags.", show_default=False),
]
Surprise = Annotated[
    bool, typer.Option("--surprise", help="Draw a prompt from those that the model brings; the same seed, the same prompt.")
]

# How it is written.
Output = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        help="File to write: .wav, .flac, .ogg, .opus or .mp3; {prompt}, {seed} and {index} are filled in; "
        "- for a WAV on stdout.",
        show_default="{prompt}-{seed}.wav",
    ),
]
Bits = Annotated[
    int | None, typer.Option("--bits", help="Bits of a sample: 16, 24, or in .wav 32 (floating point).", show_default="16")
]
Metadata = Annotated[bool, typer.Option("--metadata/--no-metadata", help="Write prompt and settings into the file.")]
Plot = Annotated[
    Path | None, typer.Option("--plot", help="Draw waveform and spectrogram: .png, .svg or .pdf.", show_default=False)
]
Preview = Annotated[
    Path | None,
    typer.Option("--preview", help="While sampling, keep writing the first two seconds so far to a WAV.", show_default=False),
]
Play = Annotated[bool, typer.Option("--play", help="Play the clip.")]

# How it is run.
Threads = Annotated[int | None, typer.Option("--threads", help="Threads.", show_default="every processor")]
Precision = Annotated[
    str | None, typer.Option("--precision", help="A precision that the bundle holds.", show_default="its best")
]
