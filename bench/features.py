"""Measures loops, kept regions and strengths with the trained model inside the package.

    python -m bench.features

Writes `features.json` and `features.md`. All clips are generated in int8.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import sao_onnx
from bench.common import ROOT, decibels
from models.sao_tiny import listen
from sao_onnx.arrays import Array
from sao_onnx.written_options import read_options

LOOPS = (
    ("house drum loop", 120, 2),
    ("techno drum loop", 140, 2),
    ("rock drum loop", 100, 1),
    ("hip hop beat", 90, 1),
    ("house drum loop", 126, 2),
    ("techno beat", 132, 2),
)
"""Prompts of the loops, with beats per minute and bars."""

HELD = ("saw wave at A3", "organ at C4", "ocean waves", "white noise")
STRENGTHS = (0.0, 0.25, 0.5, 0.66, 0.8, 1.0)
SEEDS = (1, 2, 3)
NEAR = 64
"""Frames on each side of a join that count as part of it."""


def roughness(audio: Array, place: int) -> float:
    """Largest second difference around a frame, relative to the 99th percentile of all second differences of the clip.

    A click is a jump of the waveform, which makes a large second difference.

    Args:
        audio: float32 [channels, frames].
        place: The frame.
    """
    rough = np.abs(np.diff(np.asarray(audio, np.float64), 2, axis=1)).max(axis=0)
    usual = float(np.quantile(rough, 0.99)) + 1e-9
    return float(rough[max(0, place - NEAR) : place + NEAR].max()) / usual


def joins(engine: sao_onnx.Engine) -> list[dict[str, Any]]:
    """Join the ends of every loop in three ways: cut off, cross-faded, and with its latents decoded as a circle."""
    rows = []
    ratio, rate = engine.manifest.latents.ratio, engine.manifest.audio.sample_rate
    for prompt, bpm, bars in LOOPS:
        for seed in SEEDS:
            looped = engine.generate(prompt, bpm=bpm, bars=bars, seed=seed, normalize="none")
            frames = looped.samples.shape[1]
            straight = engine.decode(looped.latents)
            count = round(frames / ratio)
            circle = engine.decode(np.tile(looped.latents[:, :count], 3))[:, count * ratio : 2 * count * ratio]
            found = {"cut off": straight[:, :frames], "cross-faded": looped.samples, "circle": circle}
            for way, audio in found.items():
                length = audio.shape[1]
                twice = np.tile(audio, 2)
                rows.append(
                    {
                        "way": way,
                        "prompt": prompt,
                        "seed": seed,
                        "roughness": roughness(twice, length),
                        "start": roughness(straight, NEAR),
                        "length": abs(length - bars * 4 * 60 / bpm * rate) / rate * 1000,
                        "tempo": abs(listen.tempo(np.tile(audio, 2)) / bpm - 1),
                    }
                )
    return rows


def kept(engine: sao_onnx.Engine) -> list[dict[str, Any]]:
    """Regenerate the middle of clips with another seed: whether the rest stays equal, and how rough the joins are."""
    rows = []
    rate = engine.manifest.audio.sample_rate
    for prompt in HELD:
        for seed in SEEDS:
            # Not normalized: otherwise the clip would be louder than the part that is regenerated.
            clip = engine.generate(prompt, seed=seed, normalize="none")
            again = engine.generate(prompt, seed=seed + 100, init_audio=clip, regenerate=[(1.5, 3.0)])
            inside = slice(0, round(1.45 * rate)), slice(round(3.05 * rate), None)
            equal = all(np.array_equal(clip.samples[:, part], again.samples[:, part]) for part in inside)
            seams = [roughness(again.samples, round(seconds * rate)) for seconds in (1.5, 3.0)]
            made = slice(round(1.6 * rate), round(2.9 * rate))
            levels = [float(np.sqrt(np.square(x.samples[:, made]).mean())) for x in (clip, again)]
            rows.append(
                {"prompt": prompt, "equal": equal, "roughness": max(seams), "level": 20 * np.log10(levels[1] / levels[0])}
            )
    return rows


def strengths(engine: sao_onnx.Engine) -> list[dict[str, Any]]:
    """Start rain from a tone: how similar the result is to the tone, by strength."""
    rows = []
    for strength in STRENGTHS:
        for seed in SEEDS:
            tone = engine.generate("organ at C4", seed=seed, normalize="none")
            alone = engine.generate("rain", seed=seed, normalize="none").samples
            level = read_options({"strength": strength})["init_noise_level"]
            made = engine.generate("rain", seed=seed, init_audio=tone, init_noise_level=level, normalize="none").samples
            rows.append({"strength": strength, "input": decibels(tone.samples, made), "without input": decibels(alone, made)})
    return rows


def report(found: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    """Lines of the report, in Markdown."""

    def mean(rows: list[dict[str, Any]], name: str) -> float:
        return float(np.mean([row[name] for row in rows]))

    yield "# Loops, kept regions and strengths"
    yield ""
    yield "`python -m bench.features`, sao-tiny in int8. Roughness is the largest second difference around a place, relative to"
    yield "the 99th percentile of the clip. A click is much rougher than the stroke of a drum."
    yield ""
    yield "## The join of a loop"
    yield ""
    yield "The engine cross-fades: there is no click, and the length is exact to the frame. A circle is as smooth, but its"
    yield "length is a whole number of latents."
    yield ""
    yield f"{len(LOOPS)} loops with {len(SEEDS)} seeds each. The start is where the loop begins in the clip, with its stroke."
    yield ""
    yield "| | mean roughness | largest | at the start | error of the length | tempo within 3 % |"
    yield "|---|---|---|---|---|---|"
    for way in ("cut off", "cross-faded", "circle"):
        rows = [row for row in found["joins"] if row["way"] == way]
        most = max(row["roughness"] for row in rows)
        right = np.mean([row["tempo"] <= 0.03 for row in rows])
        yield (
            f"| {way} | {mean(rows, 'roughness'):.2f} | {most:.2f} | {mean(rows, 'start'):.2f} | "
            f"{mean(rows, 'length'):.1f} ms | {100 * right:.0f} % |"
        )
    yield ""
    yield "## Kept regions"
    yield ""
    yield "1.5 to 3 s of a clip, regenerated with another seed."
    yield ""
    yield "| | kept frames equal | largest roughness of a join | level of the new part against the old |"
    yield "|---|---|---|---|"
    for prompt in HELD:
        rows = [row for row in found["kept"] if row["prompt"] == prompt]
        equal = "all" if all(row["equal"] for row in rows) else "not all"
        most = max(row["roughness"] for row in rows)
        yield f"| {prompt} | {equal} | {most:.2f} | {mean(rows, 'level'):+.1f} dB |"
    yield ""
    yield "## Strength"
    yield ""
    yield "Rain that starts from a clip of an organ: signal-to-noise ratios against the organ, and against the rain that the"
    yield "same seed makes without it."
    yield ""
    yield "| strength | like the organ | like the rain alone |"
    yield "|---|---|---|"
    for strength in STRENGTHS:
        rows = [row for row in found["strengths"] if row["strength"] == strength]
        yield f"| {strength:g} | {mean(rows, 'input'):.1f} dB | {mean(rows, 'without input'):.1f} dB |"


def main() -> None:
    """Measure, and write the report."""
    common = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    common.add_argument("--results", type=Path, default=ROOT / "bench" / "results", help="folder for the reports")
    arguments = common.parse_args()
    engine = sao_onnx.load(precision="int8", tuned=False)
    found = {"joins": joins(engine), "kept": kept(engine), "strengths": strengths(engine)}
    text = "\n".join(report(found)) + "\n"
    (arguments.results / "features.json").write_text(json.dumps(found, indent=1, default=float) + "\n", encoding="utf-8")
    (arguments.results / "features.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
