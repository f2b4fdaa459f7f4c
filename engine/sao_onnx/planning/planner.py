"""From a request to a plan. Everything that can be wrong with a request is found here, before any work."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from sao_onnx.arrays import Array
from sao_onnx.audio.finish import Finish
from sao_onnx.audio.prepare import rounded_down
from sao_onnx.bundle.manifest import Manifest
from sao_onnx.errors import RequestError, SaoOnnxWarning
from sao_onnx.option import TOLERANCE, Region
from sao_onnx.planning.extension import extension, one_frame
from sao_onnx.planning.initial import Reader, initial_latents, recording
from sao_onnx.planning.loops import TAIL, loop_seconds, with_tempo
from sao_onnx.planning.numbers import knows_tempo, numbers
from sao_onnx.planning.plan import Guidance, Plan, Values, Window
from sao_onnx.planning.regions import kept
from sao_onnx.request import (
    DEFAULT_BEATS,
    DEFAULT_NOISE_LEVEL,
    MAX_EXTENSION,
    MAX_SEED,
    Request,
    initial_name,
    random_seed,
    recorded_options,
)
from sao_onnx.sampling.objectives import OBJECTIVES
from sao_onnx.warn import warn

EXTENSION_DECIDES = (
    "seconds",
    "keep",
    "regenerate",
    "loop",
    "bpm",
    "bars",
    "beats",
    "window_seconds",
    "full_window",
    "latents",
)
"""Options that an extension has no room for."""

LONG_EXCLUDES = ("init_audio", "loop", "window_seconds", "full_window", "latents")
"""Options that a clip of more than one window has no room for."""


class _Part(NamedTuple):
    """A window before its details: where it begins, its length in seconds, and what it keeps."""

    start: int
    seconds: float
    kept: tuple[Region, ...] | None


def plan(manifest: Manifest, request: Request, read: Reader | None = None) -> Plan:
    """Decide everything about a clip.

    Pure, but for a seed that the request leaves open, which is drawn, and for the file that `read` reads.

    Args:
        manifest: Of the model.
        request: What is asked for.
        read: Reads a part of a file that the request starts from. Without it files are refused.

    Raises:
        RequestError: The model cannot do it, or options do not fit together. The message says how to mend it.
        AudioFileError: `read` cannot read the file.
    """
    _check_together(manifest, request)
    latents = _window_latents(manifest, request)
    sigmas = tuple(_sigmas(manifest, request).tolist())  # One for all windows, of which there can be hundreds.
    audio = recording(manifest, request, latents, read)
    parts = _parts(manifest, request, latents, audio)
    seed = random_seed() if request.seed is None else request.seed
    if seed + len(parts) - 1 > MAX_SEED:
        raise RequestError(f"seed is {seed}, expected {MAX_SEED - len(parts) + 1} or less for {len(parts)} windows")

    def window(index: int, part: _Part) -> Window:
        return _window(manifest, request, latents, sigmas, seed + index, part)

    return Plan(
        prompt=with_tempo(request.prompt, request.bpm),
        objective=manifest.sampling.objective,
        sampler=request.sampler or manifest.sampling.sampler,
        guidance=_guidance(manifest, request),
        windows=tuple(window(index, part) for index, part in enumerate(parts)),
        recording=None if audio is None else Values(audio),
        latents=None if request.latents is None else Values(initial_latents(manifest, request.latents)),
        finish=_finish(request),
        recorded=recorded_options(request),
        initial_name=initial_name(request),
        sample_rate=manifest.audio.sample_rate,
        latent_channels=manifest.latents.channels,
        ratio=manifest.latents.ratio,
    )


def uses_encoder(manifest: Manifest, request: Request) -> bool:
    """Whether a clip starts from audio, or goes on from its own first window."""
    return request.init_audio is not None or (request.seconds or 0.0) > manifest.window_seconds + TOLERANCE


def passes(manifest: Manifest, request: Request) -> tuple[int, int]:
    """Sampling steps of each window, and passes of the diffusion transformer for each step: with guidance, 2."""
    return _steps(manifest, request), 1 if _scale(manifest, request) == 1 else 2


def _check_together(manifest: Manifest, request: Request) -> None:
    """Refuse options that need or exclude each other."""
    initial = request.init_audio is not None or request.latents is not None
    if request.init_audio is not None and request.latents is not None:
        raise RequestError("init_audio and latents exclude each other; both are what to start from")
    needs: tuple[tuple[Any, str], ...] = (
        (request.init_noise_level, "init_noise_level, or strength, needs initial audio to start from; give both or neither"),
        (request.keep, "keep and regenerate need initial audio; give init_audio too"),
        (request.regenerate, "keep and regenerate need initial audio; give init_audio too"),
    )
    for value, problem in needs:
        if value is not None and not initial:
            raise RequestError(problem)
    if request.init_start is not None and request.init_audio is None:
        raise RequestError("init_start needs initial audio, in which it is a time; give init_audio too")
    if request.extend is not None:
        given = request.given()
        for name in EXTENSION_DECIDES:
            if name in given and not (name == "bpm" and knows_tempo(manifest, request)):
                raise RequestError(f"{name} does not go with extend, which decides it; leave {name} out")
        if request.init_audio is None:
            raise RequestError("extend needs initial audio to go on from")


def _parts(manifest: Manifest, request: Request, latents: int, audio: Array | None) -> list[_Part]:
    """The windows that the clip takes."""
    rate = manifest.audio.sample_rate
    if request.extend is not None and audio is not None:
        placements = extension(audio.shape[1], round(request.extend * rate), manifest.audio.window, rate)
        return [_Part(o.start, (o.kept + o.added) / rate, ((0.0, o.kept / rate),)) for o in placements]
    window = latents * manifest.latents.ratio / rate
    if request.seconds is not None and request.seconds > window + TOLERANCE and _loop_seconds(manifest, request) is None:
        return _long_parts(manifest, request, request.seconds)
    seconds = _seconds(manifest, request, latents)
    return [_Part(0, seconds, kept(request.keep, request.regenerate, min(seconds, window)))]


def _long_parts(manifest: Manifest, request: Request, seconds: float) -> list[_Part]:
    """The windows of a clip that is longer than one: the first is made, and then extended."""
    given = request.given()
    for name in LONG_EXCLUDES:
        if name in given:
            most = "of its own length" if name == "window_seconds" else f"of {rounded_down(manifest.window_seconds)} s"
            remedy = "; to go on from a recording, use extend" if name == "init_audio" else ""
            raise RequestError(f"seconds is {seconds:.15g}, and with {name} a clip has one window {most}{remedy}")
    if seconds > MAX_EXTENSION:
        raise RequestError(f"seconds is {seconds:.15g}, expected at most {MAX_EXTENSION:g}")
    rate, first = manifest.audio.sample_rate, manifest.audio.window
    placements = extension(first, round(seconds * rate) - first, first, rate)
    extended = [_Part(o.start, (o.kept + o.added) / rate, ((0.0, o.kept / rate),)) for o in placements]
    return [_Part(0, manifest.window_seconds, None), *extended]


def _window(manifest: Manifest, request: Request, latents: int, sigmas: tuple[float, ...], seed: int, part: _Part) -> Window:
    rate, most = manifest.audio.sample_rate, latents * manifest.latents.ratio
    frames = min(round(part.seconds * rate), most)
    loop = request.bars is not None or request.loop
    looped = loop and not request.full_window
    tail = min(round(TAIL * rate), most - frames, frames) if looped else 0
    return Window(
        seed=seed,
        start=part.start,
        frames=frames,
        decoded=most if request.full_window else frames + tail,
        tail=tail,
        latent_count=latents,
        sigmas=sigmas,
        # A loop must not come to its end.
        numbers=numbers(manifest, request, most / rate if loop else part.seconds),
        kept=part.kept,
    )


def _seconds(manifest: Manifest, request: Request, latents: int) -> float:
    """Length of a clip of one window."""
    limit = latents * manifest.latents.ratio / manifest.audio.sample_rate
    looped = _loop_seconds(manifest, request)
    if looped is not None:
        if request.seconds is not None or request.trim_silence:
            other = "trim_silence changes" if request.seconds is None else "seconds says"
            raise RequestError(f"{other} the length, which bpm and bars decide; leave one of them out")
        if request.loop:
            raise RequestError("bpm and bars make a loop; leave loop out")
        if looped > limit:
            # Rounded up, so that it is longer in what is printed, too.
            length = math.ceil(looped * 1000) / 1000
            raise RequestError(
                f"{request.bars} bars at {request.bpm:g} BPM are {length:.3f} s, and the window is {rounded_down(limit)} s; "
                "ask for fewer bars or more BPM"
            )
        return looped
    if request.seconds is None:
        # The tail of a loop has to fit into the window.
        return limit - TAIL if request.loop and limit > 2 * TAIL else limit
    if round(request.seconds * manifest.audio.sample_rate) < 1:
        least = one_frame(manifest.audio.sample_rate)
        raise RequestError(f"seconds is {request.seconds:.15g}, expected at least {least}, one frame of audio")
    return request.seconds


def _loop_seconds(manifest: Manifest, request: Request) -> float | None:
    """Seconds of a loop, or None where none is asked for."""
    if (request.bpm is None and request.bars is None and request.beats is None) or knows_tempo(manifest, request):
        return None
    if request.bpm is None or request.bars is None:
        raise RequestError(f"a loop needs bpm and bars; and beats, if a bar has not {DEFAULT_BEATS}")
    return loop_seconds(request.bpm, request.bars, DEFAULT_BEATS if request.beats is None else request.beats)


def _window_latents(manifest: Manifest, request: Request) -> int:
    """Latents to sample: the whole window, or as many as cover the wanted seconds."""
    if request.window_seconds is None:
        return manifest.window_latents
    if request.window_seconds > manifest.window_seconds + TOLERANCE:
        raise RequestError(
            f"window_seconds is {request.window_seconds:.15g}, expected more than 0 and at most {manifest.window_seconds:.3f}"
        )
    frames = request.window_seconds * manifest.audio.sample_rate
    # A thousandth of a frame is less than the rounding of a length that was itself computed from frames.
    return min(max(1, math.ceil((frames - 1e-3) / manifest.latents.ratio)), manifest.window_latents)


def _sigmas(manifest: Manifest, request: Request) -> Array:
    start = request.init_noise_level
    if start is None:
        keeps = request.keep is not None or request.regenerate is not None or request.extend is not None
        starts_from = request.init_audio is not None or request.latents is not None
        start = DEFAULT_NOISE_LEVEL if starts_from and not keeps else 1.0
    return OBJECTIVES[manifest.sampling.objective].sigmas(_steps(manifest, request), start)


def _steps(manifest: Manifest, request: Request) -> int:
    return manifest.sampling.steps if request.steps is None else request.steps


def _scale(manifest: Manifest, request: Request) -> float:
    return manifest.sampling.cfg_scale if request.cfg_scale is None else request.cfg_scale


def _guidance(manifest: Manifest, request: Request) -> Guidance | None:
    scale = _scale(manifest, request)
    if scale == 1:
        if request.negative_prompt is not None:
            warn("a negative prompt has no effect without guidance; set cfg_scale above 1", SaoOnnxWarning)
        return None
    return Guidance(scale, request.negative_prompt)


def _finish(request: Request) -> Finish:
    if request.normalize != "lufs" and "loudness" in request.given():
        warn("loudness has no effect without normalize lufs", SaoOnnxWarning)
    keeps = request.keep is not None or request.regenerate is not None or request.extend is not None
    return Finish(
        # What is kept of a recording keeps its level as well.
        normalize=request.normalize or ("none" if keeps else "peak"),
        loudness=request.loudness,
        fade_in=request.fade_in,
        fade_out=request.fade_out,
        trim_silence=request.trim_silence,
        mono=request.mono,
    )
