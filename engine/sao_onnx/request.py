"""What a clip can be asked for: every option, declared once.

A field of `Request` is an option: its Python type, its default, and in its `Option` the unit, the range, a line of help and the
ways to write it. The command line, lists of requests, the tags of audio files and the arguments of `Engine.generate` are all
derived from these fields.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, get_args

from sao_onnx.audio.limits import LOUDEST, LOUDNESS, MAX_FADE, QUIETEST, Normalization
from sao_onnx.audio.recording import Recording
from sao_onnx.bundle.manifest import SamplerName
from sao_onnx.errors import RequestError
from sao_onnx.option import LEVEL, LOOPS, RECORDING, SOUND, Kind, Option, Region, Spelling, text, unknown_option
from sao_onnx.warn import warn
from sao_onnx.written import read_number

if TYPE_CHECKING:
    import numpy as np

    from sao_onnx.arrays import Array

    Samples = np.ndarray[Any, Any]
else:
    # At run time without NumPy, whose import would make `--help` slow; `typing.get_type_hints` finds these.
    Array = Samples = Any

MAX_SEED = 2**32 - 1

LEAST_NOISE_LEVEL = 0.12
"""The least noise to start from, a strength of 0. Below it the schedules of the models would rise (`sampling.objectives`)."""

DEFAULT_NOISE_LEVEL = 0.7
DEFAULT_BEATS = 4
MAX_EXTENSION = 3600.0
"""Seconds that can be added at once."""


def random_seed() -> int:
    """A seed that nobody chose, from the operating system."""
    import secrets

    return secrets.randbelow(MAX_SEED + 1)


InitAudio = tuple[Samples, int] | str | Path | Recording
"""Audio to start from: samples [channels, frames] with their rate, a file, or a clip."""


def _option(default: Any, help: str, **about: Any) -> Any:
    return field(default=default, metadata={"option": Option(help, **about)})


def _strength(value: Any) -> dict[str, Any]:
    """The noise level of a strength: 0 stays as close to the initial audio as the model can, 1 ignores it."""
    strength = read_number(value)
    if not 0 <= strength <= 1:
        raise ValueError("expected 0 (close to the audio) to 1 (ignores it)")
    return {"init_noise_level": LEAST_NOISE_LEVEL + (1 - LEAST_NOISE_LEVEL) * strength}


def _fade(value: Any) -> dict[str, Any]:
    parts = str(value).split(":")
    try:
        seconds = [float(part) for part in parts]
    except ValueError:
        seconds = []
    if len(seconds) not in (1, 2):
        raise ValueError("expected seconds, such as 0.5, or IN:OUT, such as 0.01:0.5")
    return {"fade_in": seconds[0], "fade_out": seconds[-1]}


def _trim(value: Any) -> dict[str, Any]:
    if value != "silence":
        raise ValueError("expected silence")
    return {"trim_silence": True}


_DEFAULT_STRENGTH = f"{(DEFAULT_NOISE_LEVEL - LEAST_NOISE_LEVEL) / (1 - LEAST_NOISE_LEVEL):.2f}"
_STRENGTH = Spelling("strength", "With --init-audio: 0 stays close to it, 1 ignores it.", _strength, _DEFAULT_STRENGTH)
_FADE = Spelling("fade", "Seconds of both fades, or IN:OUT.", _fade, "none", "IN:OUT")
_TRIM = Spelling("trim", "The same as --trim-silence.", _trim, metavar="silence")


@dataclass(frozen=True, eq=False, repr=False)
class Request:
    """A clip that is asked for. What is None is left to the model.

    Types and ranges are checked when it is made; whether a model can do it is found when it is planned for that model. Requests
    are compared by identity, because they can hold arrays.

    Raises:
        RequestError: A value of another type or outside its range. The message names the option, what was found and what was
            expected.
    """

    prompt: str
    """A description of the sound. A prompt longer than the model reads is cut, with a warning."""
    seconds: float | None = _option(
        None, "Length.", unit="seconds", minimum=0, above=True, shown_default="the model's window", task=SOUND
    )
    """Length in seconds. What is longer than the window of the model is made in windows that overlap, as by `extend`, each with
    the next seed."""
    steps: int | None = _option(None, "Sampling steps.", minimum=1, maximum=1_000_000, shown_default="the model's", task=SOUND)
    """Sampling steps."""
    seed: int | None = _option(
        None,
        "The same seed gives the same clip.",
        minimum=0,
        maximum=MAX_SEED,
        shown_default="random",
        in_tags=False,
        task=SOUND,
    )
    """The same seed, request and model give the same clip, here and in PyTorch."""
    sampler: SamplerName | None = _option(None, "How to get from noise to latents.", shown_default="the model's", task=SOUND)
    """How to get from noise to latents."""
    cfg_scale: float | None = _option(
        None,
        "Guidance; 1 is none, other values double the work.",
        minimum=0,
        maximum=100,
        shown_default="the model's",
        aliases=("cfg",),
        task=SOUND,
    )
    """Classifier-free guidance. 1 is none; others double the work of sampling."""
    negative_prompt: str | None = _option(None, "What guidance leads away from.", aliases=("negative",), task=SOUND)
    """What guidance leads away from."""
    init_audio: InitAudio | None = _option(None, "Audio file to start from.", aliases=("init",), in_tags=False, task=RECORDING)
    """Audio to start from, cut or padded with silence to the window: samples [channels, frames] with their rate, a file, or a
    clip."""
    init_start: float | None = _option(
        None, "With --init-audio: begin at this second of it.", unit="seconds", minimum=0, shown_default="0", task=RECORDING
    )
    """Where in `init_audio` to begin, in seconds. The times of the clip count from there."""
    init_noise_level: float | None = _option(
        None,
        "With --init-audio: how much noise to start from; the least stays close to it, 1 ignores it.",
        minimum=LEAST_NOISE_LEVEL,
        maximum=1,
        shown_default=f"{DEFAULT_NOISE_LEVEL:g}",
        spellings=(_STRENGTH,),
        task=RECORDING,
    )
    """How much noise to start from: the least is close to `init_audio`, 1 ignores it. By default `DEFAULT_NOISE_LEVEL`, or 1
    where something is kept."""
    latents: Array | None = _option(None, "", on_command_line=False, in_tags=False)
    """Clean latents to start from instead of `init_audio`, those of a clip for example: float32 [latent channels, n]."""
    keep: Sequence[Region] | None = _option(
        None, "With --init-audio: keep FROM:TO, in seconds, as it is; may be repeated.", task=RECORDING
    )
    """Regions of the initial audio, from and to in seconds, that stay as they are while the rest is made anew to fit.
    Cross-faded inside the regions, over 30 ms of audio."""
    regenerate: Sequence[Region] | None = _option(
        None, "With --init-audio: keep all but FROM:TO; may be repeated.", task=RECORDING
    )
    """Regions to make anew; the rest is kept."""
    extend: float | None = _option(
        None,
        "With --init-audio: go on from its end for so many seconds.",
        unit="seconds",
        minimum=0,
        above=True,
        maximum=MAX_EXTENSION,
        task=RECORDING,
    )
    """Seconds to add to the end of `init_audio`, in windows that overlap. The clip is the recording, unchanged, and what was
    added. Each window has the next seed."""
    loop: bool = _option(False, "The end leads into the start, without a seam.", task=LOOPS)
    """The end leads into the start, at any length up to the window. `bpm` and `bars` make a loop of exact bars."""
    bpm: float | None = _option(
        None,
        "Tempo; with --bars: a loop that repeats without a seam.",
        unit="beats a minute",
        minimum=20,
        maximum=400,
        task=LOOPS,
    )
    """With `bars`, makes a loop of exactly their length, whose end leads into its start. The tempo is added to a prompt that
    names none, and told to a number conditioner `bpm`; only a model that has one takes a tempo without `bars`."""
    bars: int | None = _option(None, "Bars of a loop.", minimum=1, maximum=64, task=LOOPS)
    """Bars of a loop."""
    beats: int | None = _option(None, "Beats in a bar.", minimum=1, maximum=16, shown_default=f"{DEFAULT_BEATS}", task=LOOPS)
    """Beats in a bar."""
    window_seconds: float | None = _option(
        None,
        "Sample a shorter window: less work, but not what the model was trained on.",
        unit="seconds",
        minimum=0,
        above=True,
        shown_default="the model's",
        aliases=("window",),
        task=SOUND,
    )
    """Sample a shorter window, for less work. The model was trained on the whole one."""
    numbers: Mapping[str, float] | None = _option(
        None,
        "Tell a number conditioner of the model, which `inspect` lists; may be repeated.",
        aliases=("number",),
        task=SOUND,
    )
    """Values for number conditioners of the model by name, each in the range of the model. By default `seconds_total` is
    `seconds`; `bpm` is that option, or else the tempo that the prompt names; `seconds_start` is 0; and any other, the middle of
    its range."""
    full_window: bool = _option(False, "Keep the whole window instead of --seconds of it.", task=SOUND)
    """Keep the whole window instead of cutting the clip to `seconds`."""
    normalize: Normalization | None = _option(
        None, "Scale to a peak of 1, to a loudness, or not at all.", shown_default="peak", task=LEVEL
    )
    """Scale to a peak of 1, or to a loudness with a limiter that never clips. By default "peak", and "none" where something is
    kept. Silence stays silence."""
    loudness: float = _option(
        LOUDNESS, "Loudness for --normalize lufs.", unit="LUFS", minimum=QUIETEST, maximum=LOUDEST, task=LEVEL
    )
    """Loudness for `normalize="lufs"`, in LUFS."""
    fade_in: float = _option(
        0.0, "Length of the fade at the start.", unit="seconds", minimum=0, maximum=MAX_FADE, spellings=(_FADE,), task=LEVEL
    )
    """Length of the fade at the start, in seconds."""
    fade_out: float = _option(0.0, "Length of the fade at the end.", unit="seconds", minimum=0, maximum=MAX_FADE, task=LEVEL)
    """Length of the fade at the end, in seconds."""
    trim_silence: bool = _option(False, "Cut off silence at both ends.", spellings=(_TRIM,), task=LEVEL)
    """Cut off what is more than 60 dB below the peak at both ends."""
    mono: bool = _option(False, "One channel.", task=LEVEL)
    """Mix all channels to one."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "prompt", text("the prompt", self.prompt))
        for name, kind in kinds().items():
            value = getattr(self, name)
            if value is not None or not kind.optional:
                object.__setattr__(self, name, kind.checked(name, value))

    @classmethod
    def from_options(cls, prompt: str, options: Mapping[str, Any]) -> Request:
        """A request from options by name.

        Raises:
            RequestError: A name is unknown, or as for `Request`.
        """
        return cls(prompt, **with_present_names(options))

    def __repr__(self) -> str:
        given = {name: f"<{_shape(value)}>" if _shape(value) else repr(value) for name, value in self.given().items()}
        return f"Request({', '.join([repr(self.prompt), *(f'{name}={value}' for name, value in given.items())])})"

    def given(self) -> dict[str, Any]:
        """The options that differ from their defaults, by name; without the prompt."""
        values = {f.name: (getattr(self, f.name), f.default) for f in dataclasses.fields(self)[1:]}
        # Arrays, whose comparison is no answer, have None as their default.
        return {
            n: value for n, (value, default) in values.items() if value is not default and (default is None or value != default)
        }


class Options(TypedDict, total=False):
    """The fields of `Request` but the prompt, for type checkers: the keyword arguments of `Engine.generate`."""

    seconds: float | None
    steps: int | None
    seed: int | None
    sampler: SamplerName | None
    cfg_scale: float | None
    negative_prompt: str | None
    init_audio: InitAudio | None
    init_start: float | None
    init_noise_level: float | None
    latents: Array | None
    keep: Sequence[Region] | None
    regenerate: Sequence[Region] | None
    extend: float | None
    loop: bool
    bpm: float | None
    bars: int | None
    beats: int | None
    window_seconds: float | None
    numbers: Mapping[str, float] | None
    full_window: bool
    normalize: Normalization | None
    loudness: float
    fade_in: float
    fade_out: float
    trim_silence: bool
    mono: bool


def _shape(value: Any) -> str:
    """The shape of an array, or of the samples in a pair with their rate; "" for other values."""
    array = value[0] if isinstance(value, tuple) and value else value
    return " x ".join(map(str, array.shape)) if hasattr(array, "shape") and hasattr(array, "dtype") else ""


_KINDS = {
    "float": "number",
    "int": "whole number",
    "str": "text",
    "bool": "flag",
    "SamplerName": "choice",
    "Normalization": "choice",
    "Sequence[Region]": "regions",
    "Mapping[str, float]": "numbers",
    "InitAudio": "audio",
    "Array": "latents",
}
_CHOICES: dict[str, tuple[str, ...]] = {"SamplerName": get_args(SamplerName), "Normalization": get_args(Normalization)}


@functools.cache
def kinds() -> dict[str, Kind]:
    """The kind of every option, by its name; in the order of the fields."""
    found = {}
    for f in dataclasses.fields(Request)[1:]:
        written = str(f.type)
        base = written.removesuffix(" | None")
        found[f.name] = Kind(_KINDS[base], f.default, _CHOICES.get(base, ()), f.metadata["option"])
    return found


def with_present_names(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options by their present names.

    Raises:
        RequestError: A name is unknown; the nearest one is suggested.
    """
    found = dict(options)
    if "trim" in found:
        warn("trim=False is now full_window=True", DeprecationWarning)
        trim = found.pop("trim")
        found.setdefault("full_window", not trim)
    if isinstance(given := found.get("normalize"), bool):
        found["normalize"] = "peak" if given else "none"
        warn(f'normalize={given} is now normalize="{found["normalize"]}"', DeprecationWarning)
    for name in found:
        if name not in kinds():
            raise _unknown(str(name))
    return {name: value for name, value in found.items() if value is not None or kinds()[name].optional}


def _unknown(name: str) -> RequestError:
    """The error for a name that no field has. Names that only the command line and lists know lead to their field."""
    for field_name, kind in kinds().items():
        spellings = [spelling.name for spelling in kind.option.spellings]
        if name in (*kind.option.aliases, *spellings):
            return RequestError(f"there is no option {name!r}; did you mean {field_name!r}?")
    return unknown_option(name, kinds())


def require_words(request: Request) -> None:
    """Refuse a request with neither words nor a recording, which is nearly always a slip: a variable that holds nothing.

    For whatever takes requests from people and other programs. The engine itself makes a clip of no words.

    Raises:
        RequestError: It is one.
    """
    if not request.prompt.strip() and request.init_audio is None:
        raise RequestError(
            'the prompt is empty, expected a description of the sound, such as "rain on a tin roof"; '
            "it may be empty only with a recording to start from"
        )


def recorded_options(request: Request) -> dict[str, Any]:
    """The options of a request that a record keeps, as plain Python."""
    kept = {name: value for name, value in request.given().items() if kinds()[name].option.in_tags}
    return {name: dict(value) if isinstance(value, Mapping) else value for name, value in kept.items()}


def initial_name(request: Request) -> str | None:
    """The name of the initial audio's file, "" for audio that is no file, None without initial audio.

    Without the folder: tags are given to others, and whose folder it was is not their business.
    """
    if request.init_audio is None:
        return None if request.latents is None else ""
    file = initial_file(request)
    return "" if file is None else file.name


def initial_file(request: Request) -> Path | None:
    """The file of the initial audio; None without initial audio, and for audio that is no file."""
    init = request.init_audio
    return Path(init) if isinstance(init, (str, Path)) else None
