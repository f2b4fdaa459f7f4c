"""What loops, kept regions and strengths do, measured on the trained model that comes with the package.

    python -m bench.features

Writes `features.json` and `features.md`. Everything is generated in 8 bits; the numbers are of the audio.
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
from sao_onnx.cli.request_options import read_options

LOOPS = (
    ("house drum loop", 120, 2),
    ("techno drum loop", 140, 2),
    ("rock drum loop", 100, 1),
    ("hip hop beat", 90, 1),
    ("house drum loop", 126, 2),
    ("techno beat", 132, 2),
)
"""Prompt, beats a minute, bars."""

HELD = ("saw wave at A3", "organ at C4", "ocean waves", "white noise")
STRENGTHS = (0.0, 0.25, 0.5, 0.66, 0.8, 1.0)
SEEDS = (1, 2, 3)
NEAR = 64  # frames on either side of a join


def roughness(audio: Array, place: int) -> float:
    """How much louder the highest frequencies are around a frame than at the hundred loudest places of their kind.

    A click is a jump, and second differences show jumps. 1 is as rough as the roughest hundredth of the clip.
    """
    rough = np.abs(np.diff(np.asarray(audio, np.float64), 2, axis=1)).max(axis=0)
    usual = float(np.quantile(rough, 0.99)) + 1e-9
    return float(rough[max(0, place - NEAR) : place + NEAR].max()) / usual


def joins(engine: sao_onnx.Engine) -> list[dict[str, Any]]:
    """Every loop joined in three ways: cut off, cross-faded, and its latents decoded as a circle."""
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
    """A clip with its middle made anew by another seed: what stays, and what its seams are like."""
    rows = []
    rate = engine.manifest.audio.sample_rate
    for prompt in HELD:
        for seed in SEEDS:
            # As loud as the model makes it: a clip brought to its peak would be louder than what it adds.
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
    """A tone asked to become rain: how much of it is left, by strength."""
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
    """The lines of `features.md`."""

    def mean(rows: list[dict[str, Any]], name: str) -> float:
        return float(np.mean([row[name] for row in rows]))

    yield "# Loops, kept regions and strengths"
    yield ""
    yield "`python -m bench.features`, sao-tiny in int8. Roughness is the largest second difference around a place, in units of"
    yield "the clip's own 99th percentile: a click is far above what a drum's stroke is."
    yield ""
    yield "## The join of a loop"
    yield ""
    yield "The engine cross-fades: no click, and the length to the frame. A circle is as smooth, and a whole number of latents"
    yield "long."
    yield ""
    yield f"{len(LOOPS)} loops of {len(SEEDS)} seeds. The start is where the loop begins in the clip, with its stroke."
    yield ""
    yield "| | roughness, mean | most | at the start | length off | tempo within 3 % |"
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
    yield "1.5 to 3 s of a clip made anew with another seed."
    yield ""
    yield "| | kept frames equal | roughness of a seam, most | level of the new part against the old |"
    yield "|---|---|---|---|"
    for prompt in HELD:
        rows = [row for row in found["kept"] if row["prompt"] == prompt]
        equal = "all" if all(row["equal"] for row in rows) else "not all"
        most = max(row["roughness"] for row in rows)
        yield f"| {prompt} | {equal} | {most:.2f} | {mean(rows, 'level'):+.1f} dB |"
    yield ""
    yield "## Strength"
    yield ""
    yield "A clip of an organ, asked to become rain: signal-to-noise ratios against the organ, and against the rain that the"
    yield "same seed makes without it."
    yield ""
    yield "| strength | like the organ | like the rain alone |"
    yield "|---|---|---|"
    for strength in STRENGTHS:
        rows = [row for row in found["strengths"] if row["strength"] == strength]
        yield f"| {strength:g} | {mean(rows, 'input'):.1f} dB | {mean(rows, 'without input'):.1f} dB |"


def main() -> None:
    """Measure and report."""
    common = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    common.add_argument("--results", type=Path, default=ROOT / "bench" / "results", help="where to write")
    arguments = common.parse_args()
    engine = sao_onnx.load(precision="int8", tuned=False)
    found = {"joins": joins(engine), "kept": kept(engine), "strengths": strengths(engine)}
    text = "\n".join(report(found)) + "\n"
    (arguments.results / "features.json").write_text(json.dumps(found, indent=1, default=float) + "\n", encoding="utf-8")
    (arguments.results / "features.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
