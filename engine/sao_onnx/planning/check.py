"""Can a model carry out a plan? A plan can come from another machine, and can have been made for another model."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any, get_args

import numpy as np

from sao_onnx.audio.finish import Finish
from sao_onnx.bundle.manifest import Manifest, SamplerName
from sao_onnx.errors import RequestError
from sao_onnx.option import finite_number, regions, shown, whole_number
from sao_onnx.planning.plan import Plan, Values, Window
from sao_onnx.request import MAX_SEED, kinds

REMEDY = "make it with `Engine.plan` of this model"


def check(plan: Plan, manifest: Manifest) -> None:
    """Refuse a plan of another model, and one that was changed to what no model can do.

    Raises:
        RequestError: The message names what does not fit.
    """
    if not isinstance(plan, Plan):
        raise RequestError(f"the plan is {shown(plan)}; {REMEDY}")
    try:
        _check_model(plan, manifest)
        _check_finish(plan.finish)
        length = _check_start(plan, manifest)
        for window in plan.windows:
            _check_window(window, plan, manifest)
            _between("start of a window", window.start, 0, length)
            length = window.start + (window.frames if window.tail else window.decoded)
    except (AttributeError, TypeError, ValueError) as error:
        text = str(error) if isinstance(error, RequestError) else f"it holds values of another type: {error}"
        raise RequestError(f"the plan cannot be carried out: {text}; {REMEDY}") from error


def _check_model(plan: Plan, manifest: Manifest) -> None:
    _same("objective", plan.objective, manifest.sampling.objective)
    _same("sample rate", plan.sample_rate, manifest.audio.sample_rate)
    _same("number of latent channels", plan.latent_channels, manifest.latents.channels)
    _same("number of frames of a latent", plan.ratio, manifest.latents.ratio)
    if plan.sampler not in get_args(SamplerName):
        raise RequestError(f"its sampler is {shown(plan.sampler)}, expected {' or '.join(get_args(SamplerName))}")
    prompts = [plan.prompt]
    if plan.guidance is not None:
        finite_number("its guidance", plan.guidance.scale)
        prompts.append("" if plan.guidance.negative_prompt is None else plan.guidance.negative_prompt)
    for prompt in prompts:
        if not isinstance(prompt, str):
            raise RequestError(f"its prompt is {shown(prompt)}, expected text")
    if not isinstance(plan.initial_name, str | None):
        raise RequestError(f"its initial_name is {shown(plan.initial_name)}, expected text or None")
    dict(plan.recorded)


def _check_finish(finish: Finish) -> None:
    known = kinds()
    for field in dataclasses.fields(Finish):
        known[field.name].checked(field.name, getattr(finish, field.name))


def _check_start(plan: Plan, manifest: Manifest) -> int:
    """Check what is started from; frames of the recording."""
    if not plan.windows:
        raise RequestError("it has no windows")
    if plan.latents is not None:
        _array("latents", plan.latents, manifest.latents.channels)
    if plan.recording is None:
        return 0
    if plan.latents is not None:
        raise RequestError("it starts from a recording and from latents, expected one of them")
    return _array("recording", plan.recording, manifest.audio.channels)


def _array(name: str, values: Values, channels: int) -> int:
    """Check audio or latents; their length."""
    array = values.array
    if array.dtype != np.float32 or array.ndim != 2 or len(array) != channels or not array.shape[1]:
        raise RequestError(f"its {name} have shape {array.shape} and dtype {array.dtype}, expected float32 ({channels}, n)")
    if not np.isfinite(array).all():
        raise RequestError(f"its {name} hold NaN or infinite values")
    return int(array.shape[1])


def _check_window(window: Window, plan: Plan, manifest: Manifest) -> None:
    _between("seed", window.seed, 0, MAX_SEED)
    _between("number of latents", window.latent_count, 1, manifest.window_latents)
    _between("number of frames", window.frames, 1, window.latent_count * plan.ratio)
    _between("number of decoded frames", window.decoded, window.frames, window.latent_count * plan.ratio)
    # The tail is decoded behind the frames, and faded into as many at their start.
    _between("tail", window.tail, 0, min(window.decoded - window.frames, window.frames))
    sigmas = [finite_number("a sigma", sigma) for sigma in window.sigmas]
    falling = all(before > after for before, after in itertools.pairwise(sigmas))
    if len(sigmas) < 2 or not falling or sigmas[0] > 1 or sigmas[-1] != 0:
        raise RequestError("its sigmas do not fall from 1 or less to 0")
    names = [number.id for number in manifest.conditioning.numbers]
    if sorted(window.numbers) != sorted(names):
        raise RequestError(f"its numbers are {', '.join(window.numbers)}, expected {', '.join(names)}")
    for name, number in window.numbers.items():
        finite_number(name, number)
    if window.kept is not None:
        regions("kept", window.kept)


def _same(what: str, found: Any, expected: Any) -> None:
    if found != expected:
        raise RequestError(f"its {what} is {shown(found)}, and the model's {shown(expected)}")


def _between(what: str, value: Any, least: int, most: int) -> None:
    if not least <= whole_number(what, value) <= most:
        raise RequestError(f"its {what} is {shown(value)}, expected {least} to {most}")
