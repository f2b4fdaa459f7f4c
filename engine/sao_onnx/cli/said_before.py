"""What `gen` says before the work: the prompt that was drawn, the numbers that nobody gave, and more than the usual work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sao_onnx.cli.terminal import note

if TYPE_CHECKING:
    from sao_onnx.bundle.manifest import Manifest
    from sao_onnx.request import Request

USUAL = 8
"""Passes of the diffusion transformer that the released model takes for a clip."""


def drawn(model: str | None, seed: int | None) -> tuple[str, int]:
    """A prompt of a model, and the seed that it was drawn with."""
    from sao_onnx.bundle.bundle import open_bundle
    from sao_onnx.bundle.names import find
    from sao_onnx.bundle.prompts import drawn_prompt
    from sao_onnx.request import random_seed

    seed = random_seed() if seed is None else seed
    prompt = drawn_prompt(open_bundle(find(model)), seed)
    note(f"the prompt is: {prompt}")
    return prompt, seed


def note_work(manifest: Manifest, request: Request) -> None:
    """Say what a request leaves to the numbers of a model, and what it costs where that is more than usual."""
    from sao_onnx.bundle.manifest import DURATION, START, TEMPO
    from sao_onnx.errors import RequestError
    from sao_onnx.planning.numbers import numbers
    from sao_onnx.planning.planner import passes

    said = {DURATION, START, *(request.numbers or {}), *(() if request.bpm is None else (TEMPO,))}
    try:
        told = numbers(manifest, request, manifest.window_seconds)
    except RequestError:
        return  # The plan says it as well.
    if left := [f"{name} {value:g}" for name, value in told.items() if name not in said]:
        note(f"the model is told {', '.join(left)}; --number NAME=VALUE tells it others, and inspect shows their ranges")
    steps, each = passes(manifest, request)
    # Whoever gives the steps knows; a model whose own are many may surprise.
    if request.steps is None and steps * each > USUAL:
        how = f"{steps} steps with guidance are {steps * each}" if each > 1 else f"{steps} steps are {steps}"
        note(f"{how} passes of the network, where {USUAL} are usual: sampling takes {steps * each / USUAL:.3g} times as long")
