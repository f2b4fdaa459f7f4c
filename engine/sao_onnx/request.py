"""What is asked for, checked against what the model can do before any work starts."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, cast

import numpy as np

from sao_onnx.arrays import Array
from sao_onnx.audio.files import read_audio
from sao_onnx.audio.finish import LOUDNESS, Finish, Normalization
from sao_onnx.audio.prepare import fit, prepare
from sao_onnx.bundle.manifest import Manifest, SamplerName
from sao_onnx.clip import Clip
from sao_onnx.errors import RequestError, SaoOnnxWarning
from sao_onnx.planning.loops import OVERLAP, loop_seconds, with_tempo
from sao_onnx.planning.regions import Region, kept
from sao_onnx.sampling.noise import MAX_SEED, random_seed
from sao_onnx.sampling.samplers import SAMPLERS
from sao_onnx.sampling.schedules import schedule

InitAudio = tuple[np.ndarray[Any, Any], int] | str | Path | Clip
"""Audio to start from: samples [channels, frames] with their rate, a file, or a clip."""

DURATION = "seconds_total"
"""The number conditioner that is told how long the sound shall be."""

DEFAULT_NOISE_LEVEL = 0.7
MAX_CFG_SCALE = 100.0


@dataclass(frozen=True, eq=False)
class Request:
    """A checked request, every default worked out.

    Attributes:
        prompt: Text.
        numbers: Value of every number conditioner.
        frames: Audio frames of the clip.
        overlap: Frames behind them that are faded into its start; 0 but for loops.
        window: Latents that are sampled.
        levels: Noise levels, float32 [steps + 1].
        sampler: Name of the sampler.
        seed: Of the noise.
        cfg_scale: Guidance; 1 is none.
        negative_prompt: What guidance leads away from, or None.
        init_audio: Audio to start from, float32 [channels, window × ratio], or None.
        kept: Regions of it that are kept, or None for none of it as such.
        trim: Cut the clip to `frames`.
        finish: What is done to the audio.
    """

    prompt: str
    numbers: Mapping[str, float]
    frames: int
    overlap: int
    window: int
    levels: Array
    sampler: SamplerName
    seed: int
    cfg_scale: float
    negative_prompt: str | None
    init_audio: Array | None
    kept: tuple[Region, ...] | None
    trim: bool
    finish: Finish


class Options(TypedDict, total=False):
    """The keyword arguments of `Engine.generate`, where they are described. What is left out or None is the model's default."""

    seconds: float | None
    steps: int | None
    seed: int | None
    sampler: str | None
    cfg_scale: float | None
    negative_prompt: str | None
    init_audio: InitAudio | None
    init_start: float | None
    init_noise_level: float | None
    keep: Sequence[Region] | None
    regenerate: Sequence[Region] | None
    extend: float | None
    bpm: float | None
    bars: int | None
    beats: int | None
    window_seconds: float | None
    numbers: Mapping[str, float] | None
    trim: bool
    normalize: bool | Normalization | None
    loudness: float
    fade_in: float
    fade_out: float
    trim_silence: bool
    mono: bool


def known_options(options: Mapping[str, Any]) -> Options:
    """Options by name from outside, a file's recipe for example; their values are checked with the request.

    Raises:
        RequestError: A name is unknown.
    """
    for name in options:
        if name not in Options.__annotations__:
            raise RequestError(f"the option {name!r} is unknown; known: {', '.join(Options.__annotations__)}")
    return cast(Options, dict(options))


def make_request(
    manifest: Manifest,
    prompt: str,
    *,
    seconds: float | None = None,
    steps: int | None = None,
    seed: int | None = None,
    sampler: str | None = None,
    cfg_scale: float | None = None,
    negative_prompt: str | None = None,
    init_audio: InitAudio | None = None,
    init_start: float | None = None,
    init_noise_level: float | None = None,
    keep: Sequence[Region] | None = None,
    regenerate: Sequence[Region] | None = None,
    extend: float | None = None,
    bpm: float | None = None,
    bars: int | None = None,
    beats: int | None = None,
    window_seconds: float | None = None,
    numbers: Mapping[str, float] | None = None,
    trim: bool = True,
    normalize: bool | Normalization | None = None,
    loudness: float = LOUDNESS,
    fade_in: float = 0.0,
    fade_out: float = 0.0,
    trim_silence: bool = False,
    mono: bool = False,
) -> Request:
    """Check a request; for the arguments see `Engine.generate`.

    Raises:
        RequestError: A value outside its range; the message names the value, the range and the remedy.
        AudioFileError: The initial audio cannot be read.
    """
    if extend is not None:
        raise RequestError("extend takes several windows, and this is a request for one")
    if not isinstance(prompt, str):
        raise RequestError(f"the prompt is {prompt!r}, expected text")
    if negative_prompt is not None and not isinstance(negative_prompt, str):
        raise RequestError(f"the negative prompt is {negative_prompt!r}, expected text or None")
    window = _window(manifest, window_seconds)
    limit = window * manifest.latents.ratio / manifest.audio.sample_rate
    looped = _loop(bpm, bars, beats)
    if looped is not None and (seconds is not None or trim_silence):
        other = "trim_silence changes" if seconds is None else "seconds says"
        raise RequestError(f"{other} the length, which bpm and bars decide; leave one of them out")
    if looped is not None and looped > limit:
        raise RequestError(
            f"{bars} bars at {bpm:g} BPM are {looped:.2f} s, and the window is {limit:.3f} s; ask for fewer bars or more BPM"
        )
    length = looped or (limit if seconds is None else number("seconds", seconds))
    # Rounded up in the message's own digits, so that the limit that it names is accepted.
    if not 0 < length <= math.ceil(limit * 1000) / 1000:
        raise RequestError(
            f"seconds is {seconds}, expected more than 0 and at most {math.ceil(limit * 1000) / 1000:g}, the window"
        )
    if init_noise_level is not None and init_audio is None:
        raise RequestError("a noise level was given without initial audio; give both or neither")
    regions = kept(keep, regenerate, length)
    if regions is not None and init_audio is None:
        raise RequestError("keep and regenerate need initial audio, which they are about")
    if init_noise_level is not None:
        level = number("the noise level", init_noise_level)
    else:
        level = 1.0 if init_audio is None or regions is not None else DEFAULT_NOISE_LEVEL
    if init_start is not None and init_audio is None:
        raise RequestError("init_start needs initial audio, in which it is a place")
    name = _sampler(manifest.sampling.sampler if sampler is None else sampler)
    scale = manifest.sampling.cfg_scale if cfg_scale is None else number("cfg_scale", cfg_scale)
    if not 0 <= scale <= MAX_CFG_SCALE:
        raise RequestError(f"cfg_scale is {scale}, expected 0 to {MAX_CFG_SCALE:g} (1 is no guidance)")
    if negative_prompt is not None and scale == 1:
        warnings.warn("a negative prompt has no effect without guidance; set cfg_scale above 1", SaoOnnxWarning, stacklevel=4)
    rate, most = manifest.audio.sample_rate, window * manifest.latents.ratio
    frames = min(round(length * rate), most)
    return Request(
        prompt=prompt if bpm is None else with_tempo(prompt, bpm),
        # A loop must not come to its end.
        numbers=_numbers(manifest, numbers or {}, length if looped is None else limit),
        frames=frames,
        overlap=0 if looped is None else min(round(OVERLAP * rate), most - frames, frames),
        window=window,
        levels=schedule(manifest.sampling.steps if steps is None else _whole("steps", steps), level),
        sampler=name,
        seed=_seed(seed),
        cfg_scale=scale,
        negative_prompt=negative_prompt,
        init_audio=None if init_audio is None else fit(read_initial(manifest, init_audio, init_start), most),
        kept=regions,
        trim=trim,
        finish=Finish(
            # What is kept of a recording keeps its level as well.
            _normalization(normalize, "peak" if regions is None else "none"),
            number("loudness", loudness),
            number("fade_in", fade_in),
            number("fade_out", fade_out),
            trim_silence,
            mono,
        ),
    )


def _loop(bpm: float | None, bars: int | None, beats: int | None) -> float | None:
    """Seconds of a loop, or None where none is asked for."""
    if bpm is None and bars is None and beats is None:
        return None
    if bpm is None or bars is None:
        raise RequestError("a loop needs bpm and bars, and beats a bar if they are not 4")
    return loop_seconds(number("bpm", bpm), _whole("bars", bars), _whole("beats", 4 if beats is None else beats))


def _normalization(given: bool | Normalization | None, default: Normalization) -> Normalization:
    if given is None:
        return default
    return ("peak" if given else "none") if isinstance(given, bool) else given


def _window(manifest: Manifest, seconds: float | None) -> int:
    """Latents to sample: the whole window, or as many as cover the wanted seconds."""
    if seconds is None:
        return manifest.window_latents
    frames = number("window_seconds", seconds) * manifest.audio.sample_rate
    # A thousandth of a frame is less than the rounding of a length that was itself computed from frames.
    latents = math.ceil((frames - 1e-3) / manifest.latents.ratio) if frames > 0 else 0
    if not 1 <= latents <= manifest.window_latents:
        raise RequestError(f"window_seconds is {seconds}, expected more than 0 and at most {manifest.window_seconds:.3f}")
    return latents


def number(name: str, value: float) -> float:
    """A finite number as Python's, or a RequestError that names it."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)) or not math.isfinite(value):
        raise RequestError(f"{name} is {value!r}, expected a finite number")
    return float(value)


def _whole(name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise RequestError(f"{name} is {value!r}, expected a whole number")
    return int(value)


def _seed(seed: int | None) -> int:
    if seed is None:
        return random_seed()
    seed = _whole("seed", seed)
    if not 0 <= seed <= MAX_SEED:
        raise RequestError(f"seed is {seed}, expected 0 to {MAX_SEED}")
    return seed


def _sampler(name: str) -> SamplerName:
    for known in SAMPLERS:
        if known == name:
            return known
    raise RequestError(f"sampler is {name!r}, known: {', '.join(SAMPLERS)}")


def _numbers(manifest: Manifest, given: Mapping[str, float], seconds: float) -> dict[str, float]:
    known = [number.id for number in manifest.conditioning.numbers]
    if unknown := [name for name in given if name not in known]:
        raise RequestError(f"the model has no number conditioner {unknown[0]!r}; it has {', '.join(known)}")
    values = {number.id: number.minimum for number in manifest.conditioning.numbers}
    if DURATION in values:
        values[DURATION] = seconds
    return values | {name: number(name, value) for name, value in given.items()}


def read_initial(manifest: Manifest, init_audio: InitAudio, start: float | None = None) -> Array:
    """Audio to start from as the model takes it: float32 [channels, frames], from `start` seconds to its end.

    Raises:
        RequestError: It is of no known kind, empty, misshapen or not finite, or ends before `start`.
        AudioFileError: It cannot be read.
    """
    if isinstance(init_audio, Clip):
        samples, rate = init_audio.samples, init_audio.sample_rate
    elif isinstance(init_audio, (str, Path)):
        samples, rate = read_audio(init_audio)
    elif isinstance(init_audio, tuple) and len(init_audio) == 2:
        samples, rate = init_audio
    else:
        raise RequestError(f"init_audio is {type(init_audio).__name__}, expected (samples, sample_rate), a path or a Clip")
    audio = prepare(samples, rate, channels=manifest.audio.channels, target_rate=manifest.audio.sample_rate)
    first = 0 if start is None else round(number("init_start", start) * manifest.audio.sample_rate)
    if not 0 <= first < audio.shape[1]:
        seconds = audio.shape[1] / manifest.audio.sample_rate
        raise RequestError(f"init_start is {start}, expected 0 or more and less than {seconds:.3f}, where the audio ends")
    return audio[:, first:]
