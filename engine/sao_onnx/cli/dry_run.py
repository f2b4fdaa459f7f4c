"""`gen --dry-run`: what would be made, and what it would cost."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from sao_onnx.cli.streams import printable
from sao_onnx.cli.terminal import megabytes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sao_onnx.cli.settings import Applied
    from sao_onnx.engine import Engine
    from sao_onnx.request import Request


def show_plan(
    engine: Engine,
    request: Request,
    clips: Sequence[tuple[int, Path]],
    peak: int,
    settings: Sequence[Applied],
    *,
    as_json: bool,
) -> None:
    """Print what would be made.

    Args:
        engine: Of the model.
        request: Of the clips.
        clips: Their seeds and files.
        peak: Estimated peak of memory, in bytes.
        settings: What of it the environment and the file of settings said.
        as_json: As one JSON object.
    """
    planned = engine.plan(replace(request, seed=clips[0][0]))
    steps = sum(window.steps for window in planned.windows)
    about: dict[str, Any] = {
        "model": engine.manifest.model.name,
        "precision": engine.precision,
        "threads": engine.threads,
        "prompt": planned.prompt,
        "sampler": planned.sampler,
        "guidance": None if planned.guidance is None else asdict(planned.guidance),
        "windows": [
            {
                "seed": window.seed,
                "start": window.start / planned.sample_rate,
                "seconds": window.frames / planned.sample_rate,
                "steps": window.steps,
                "numbers": dict(window.numbers),
            }
            for window in planned.windows
        ],
        "passes": steps * (1 if planned.guidance is None else 2),
        "peak_memory": peak,
        "files": [str(path) for _, path in clips],
        "settings": {setting.key: {"value": setting.value, "from": setting.source} for setting in settings},
    }
    if as_json:
        print(json.dumps(about))
        return
    for line in (*_lines(about), *(setting.line for setting in settings)):
        print(printable(line))


def _lines(about: dict[str, Any]) -> Sequence[str]:
    windows, guidance = about["windows"], about["guidance"]
    steps = sum(window["steps"] for window in windows)
    led = "without guidance" if guidance is None else f"with guidance {guidance['scale']:g}"
    numbers = ", ".join(f"{name} {value:g}" for name, value in windows[0]["numbers"].items())
    return [
        f"model       {about['model']} in {about['precision']}, {about['threads']} threads",
        f"prompt      {about['prompt']}",
        f"numbers     {numbers}",
        *(f"window      {w['seconds']:.2f} s from {w['start']:.2f} s on, seed {w['seed']}" for w in windows),
        f"sampling    {steps} steps of {about['sampler']} {led}: {about['passes']} passes of the network for a clip",
        f"memory      about {megabytes(about['peak_memory'])} at its peak",
        *(f"file        {file}" for file in about["files"]),
    ]
