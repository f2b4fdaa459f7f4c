"""How far few steps of each sampler are from the end of the path that all of them follow.

    python -m bench.samplers [--model BUNDLE] [--window SECONDS]

Writes `samplers.md`. The differential equation of a rectified flow has one end for every start. Euler with 400 steps stands for
it; the error of others is the signal-to-noise ratio of their latents against those, in the mean over the prompts.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

import sao_onnx
from bench.common import ROOT, decibels, processor
from sao_onnx.arrays import Array
from sao_onnx.bundle.manifest import SamplerName
from sao_onnx.events import Sampled

PROMPTS = (
    "bright saw wave at A4",
    "organ at C4",
    "short kick drum on the left",
    "techno loop, 140 bpm",
    "house drum loop, 120 bpm",
    "rain",
    "ocean waves",
    "white noise",
    "a bell at E5",
    "deep bass at A1",
    "hi-hat",
    "glass breaking",
)
SCALES = (1.0, 4.0)
TRUTH = 400
TRIED: tuple[tuple[SamplerName, int], ...] = (
    *(("euler", steps) for steps in (8, 16, 25, 50)),
    *(("dpmpp", steps) for steps in (8, 12, 16, 20, 25, 30)),
)

Latents = Callable[[str, int, SamplerName, int, float], Array]
"""The latents of a prompt and its seed, by sampler, steps and guidance."""


def measured(latents: Latents, prompts: tuple[str, ...] = PROMPTS) -> dict[tuple[SamplerName, int, float], list[float]]:
    """Signal-to-noise ratios in decibels, one for each prompt, by sampler, steps and guidance.

    Args:
        latents: Samples.
        prompts: What is sampled, each with the seed of its number.
    """
    found: dict[tuple[SamplerName, int, float], list[float]] = {}
    for seed, prompt in enumerate(prompts):
        for scale in SCALES:
            truth = latents(prompt, seed, "euler", TRUTH, scale)
            for sampler, steps in TRIED:
                ratio = decibels(truth, latents(prompt, seed, sampler, steps, scale))
                found.setdefault((sampler, steps, scale), []).append(ratio)
    return found


def report(found: dict[tuple[SamplerName, int, float], list[float]], model: str) -> Iterator[str]:
    """Lines of the report, in Markdown."""
    count = len(next(iter(found.values())))
    yield "# How many steps are enough"
    yield ""
    yield f"`python -m bench.samplers`, {model}, {count} prompts, on {processor()}."
    yield f"Signal-to-noise ratio of the latents against {TRUTH} steps of Euler: the mean over the prompts, and the least in"
    yield "brackets. A step with guidance is two passes of the network."
    yield ""
    yield "| | " + " | ".join(f"guidance {scale:g}" for scale in SCALES) + " |"
    yield "|---" * (1 + len(SCALES)) + "|"
    for sampler, steps in TRIED:
        cells = [found[sampler, steps, scale] for scale in SCALES]
        yield f"| {sampler} {steps} | " + " | ".join(f"{np.mean(cell):.1f} dB ({min(cell):.1f})" for cell in cells) + " |"


def main() -> None:
    """Measure, and write the report."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--model", help="a bundle; by default sao-tiny")
    options.add_argument("--window", type=float, help="seconds of the window; by default the model's")
    options.add_argument("--threads", type=int, help="threads")
    options.add_argument("--results", type=Path, default=ROOT / "bench" / "results", help="folder for the report")
    given = options.parse_args()
    engine = sao_onnx.load(given.model, threads=given.threads, tuned=False)

    def latents(prompt: str, seed: int, sampler: SamplerName, steps: int, scale: float) -> Array:
        events = engine.stream(prompt, seed=seed, sampler=sampler, steps=steps, cfg_scale=scale, window_seconds=given.window)
        # Nothing is decoded, which only happens after the last step.
        last = next(event for event in events if isinstance(event, Sampled) and event.index + 1 == steps)
        return last.latents

    what = f"{engine.manifest.model.name} in {engine.precision}, window {given.window or engine.manifest.window_seconds:.2f} s"
    text = "\n".join(report(measured(latents), what)) + "\n"
    (given.results / "samplers.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
