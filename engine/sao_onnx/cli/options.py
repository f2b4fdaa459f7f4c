"""Options of the commands, by task. What `words` knows how to read keeps its name here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

MODEL_VARIABLE = "SAO_ONNX_MODEL"

_MODEL = "A bundle: its folder, or its name in `sao-onnx models`."

# Every command.
Model = Annotated[str | None, typer.Option("--model", "-m", envvar=MODEL_VARIABLE, help=_MODEL, show_default="sao-tiny")]
Bundle = Annotated[str | None, typer.Argument(envvar=MODEL_VARIABLE, help=_MODEL, show_default="sao-tiny")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what exists.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show nothing but errors and the result.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say what is going on.")]

# What it shall be.
Prompt = Annotated[str | None, typer.Argument(help="What it shall sound like.", show_default=False)]
Count = Annotated[int, typer.Option("--count", "-n", help="Variations, from one seed to the next.", min=1)]
Seconds = Annotated[float | None, typer.Option("--seconds", help="Length.", show_default="the model's window")]
Steps = Annotated[int | None, typer.Option("--steps", help="Sampling steps.", show_default="the model's")]
Seed = Annotated[int | None, typer.Option("--seed", help="The same seed gives the same clip.", show_default="drawn")]
Sampler = Annotated[str | None, typer.Option("--sampler", help="pingpong, euler or dpmpp.", show_default="the model's")]
Cfg = Annotated[
    float | None, typer.Option("--cfg", help="Guidance; 1 is none, more doubles the work.", show_default="the model's")
]
Negative = Annotated[str | None, typer.Option("--negative", help="What guidance leads away from.", show_default=False)]
Window = Annotated[
    float | None,
    typer.Option(
        "--window",
        help="Sample a shorter window of so many seconds: less work, but not what the model was trained on.",
        show_default="the model's",
    ),
]
From = Annotated[
    Path | None, typer.Option("--from", help="Make the clip of this file again, as its tags say.", show_default=False)
]

# From a recording.
Init = Annotated[Path | None, typer.Option("--init", help="Audio file to start from.", show_default=False)]
InitStart = Annotated[
    float | None, typer.Option("--init-start", help="With --init: from this second of the file on.", show_default="0")
]
Strength = Annotated[
    float | None, typer.Option("--strength", help="With --init: 0 stays close to the file, 1 ignores it.", show_default="0.66")
]
Keep = Annotated[
    list[str] | None,
    typer.Option("--keep", help="With --init: keep FROM:TO, in seconds, as it is; may be repeated.", show_default=False),
]
Regenerate = Annotated[
    list[str] | None,
    typer.Option("--regenerate", help="With --init: keep all but FROM:TO; may be repeated.", show_default=False),
]
Extend = Annotated[
    float | None, typer.Option("--extend", help="With --init: go on from its end for so many seconds.", show_default=False)
]

# A loop.
Bpm = Annotated[
    float | None, typer.Option("--bpm", help="With --bars: a loop that repeats without a seam.", show_default=False)
]
Bars = Annotated[int | None, typer.Option("--bars", help="Bars of a loop.", show_default=False)]
Beats = Annotated[int | None, typer.Option("--beats", help="Beats in a bar.", show_default="4")]

# How it is finished and written.
Normalize = Annotated[str | None, typer.Option("--normalize", help="peak; lufs, a loudness; or none.", show_default="peak")]
Loudness = Annotated[float | None, typer.Option("--loudness", help="With --normalize lufs: LUFS.", show_default="-14")]
Fade = Annotated[str | None, typer.Option("--fade", help="Seconds at both ends, or IN:OUT.", show_default="none")]
Trim = Annotated[str | None, typer.Option("--trim", help="silence: cut it off at both ends.", show_default="nothing")]
Mono = Annotated[bool, typer.Option("--mono", help="One channel.")]
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
    int | None, typer.Option("--bits", help="A sample: 16, 24, or in .wav 32 (floating point).", show_default="16")
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
Precision = Annotated[str | None, typer.Option("--precision", help="One that the bundle holds.", show_default="its best")]
