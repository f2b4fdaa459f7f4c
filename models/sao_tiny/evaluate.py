"""Does the model do what it is asked? Measured on its clips by signal processing, with prompts that training never used.

    python -m models.sao_tiny.evaluate BUNDLE --precision int8 --precision fp32 --control -o models/sao_tiny/results.json

Every prompt is an unseen combination (a kind at its pitch or tempo, or a kind with all adjectives); seeds are the numbers of
the sounds. The truth is the request itself; for measures of quality, it is the synthesizer's own sound for the same request.
With `--control`, the synthesizer's own sounds are measured as well: what they miss, no model can be blamed for.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import sao_onnx
from models.sao_tiny import listen, measure_autoencoder, quality
from models.sao_tiny.data import unseen_sound
from models.sao_tiny.kind_classifier import FIRST, KindClassifier
from models.sao_tiny.requests import KINDS, WINDOW, Sound, describe, render
from models.sao_tiny.signals import SAMPLE_RATE
from models.sao_tiny.sounds import LOOPS, TONES, hertz
from sao_onnx.bundle.manifest import Precision

Audio = np.ndarray[Any, np.dtype[np.float32]]

PAIRS = 60
REFERENCES = 5
"""Of the synthesizer's sounds for the same request, to which a clip is compared."""


@dataclass(frozen=True)
class Example:
    """A prompt that the model has not been trained on, and the truth about it."""

    number: int
    sound: Sound
    prompt: str


def examples(count: int) -> list[Example]:
    """Prompts: a third tones, a third loops, a third all other kinds in turn."""
    others = [kind for kind in KINDS if kind not in TONES and kind not in LOOPS]
    found = []
    for index in range(count):
        family = (TONES, LOOPS, others)[index % 3]
        rng, sound = unseen_sound(FIRST + index, family[index // 3 % len(family)])
        found.append(Example(FIRST + index, sound, describe(rng, sound)))
    return found


def fulfilled(sound: Sound, audio: Audio, classifier: KindClassifier) -> dict[str, bool]:
    """What of a request a clip of the whole window fulfils, by the name of the check; only checks that apply."""
    kind = classifier.kind(audio)
    seconds = min(sound.seconds, WINDOW / SAMPLE_RATE)
    checks = {"class": kind == sound.kind}
    if sound.note:
        checks["pitch"] = abs(1200 * np.log2(listen.pitch(audio) / hertz(sound.note))) <= 50
    if sound.tempo:
        checks["tempo"] = abs(listen.tempo(audio) / sound.tempo - 1) <= 0.03
    if sound.side:
        checks["side"] = (listen.side(audio) > 6) == (sound.side == "left") and abs(listen.side(audio)) > 6
    else:
        checks["centre"] = abs(listen.side(audio)) < 3
    if seconds < WINDOW / SAMPLE_RATE - 0.3:
        checks["silence after the end"] = listen.level_after(audio, seconds + 0.05) < -40
    if sound.ends_early and seconds > 1.5 and not sound.distant:
        checks["ends early"] = listen.end(audio) < _true_end(sound) + 0.4
    return checks


def _true_end(sound: Sound) -> float:
    return max(listen.end(render(np.random.default_rng(seed), sound)) for seed in range(3))


Generate = Callable[[Example, int], Audio]
"""A clip for an example and a seed, of the whole window."""


def of_bundle(bundle: Path, precision: Precision) -> Generate:
    """Clips of a bundle in one of its precisions."""
    engine = sao_onnx.load(bundle, precision=precision)
    return lambda example, seed: (
        engine.generate(example.prompt, seconds=example.sound.seconds, seed=seed, full_window=True).samples
    )


def of_synthesizer(example: Example, seed: int) -> Audio:
    """The synthesizer's own sound, another one than `references` are."""
    return render(np.random.default_rng((1, seed)), example.sound)


def evaluate(generate: Generate, count: int, report: Callable[[str], None]) -> dict[str, Any]:
    """All figures of what `generate` makes of so many examples."""
    classifier = KindClassifier()
    tally: dict[str, list[bool]] = {}
    failures, heard = [], []
    chosen = examples(count)
    started = time.monotonic()
    for done, example in enumerate(chosen, start=1):
        audio = generate(example, example.number)
        checks = fulfilled(example.sound, audio, classifier)
        for name, passed in checks.items():
            tally.setdefault(name, []).append(bool(passed))
        heard.append(quality.measure(example.sound, audio, references(example.sound)))
        if not all(checks.values()):
            wrong = [name for name, passed in checks.items() if not passed]
            failures.append({"prompt": example.prompt, "seed": example.number, "failed": wrong})
        if done % 50 == 0:
            report(f"{done} of {count} clips, {(time.monotonic() - started) / done:.2f} s each")
    differ, stay = [], []
    for example in chosen[-PAIRS:]:
        first, second = (generate(example, seed) for seed in (1, 2))
        differ.append(listen.si_sdr(first, second) < 20)
        stay.append(classifier.kind(first) == classifier.kind(second) == example.sound.kind)
    return {
        "checks": {name: {"share": round(float(np.mean(found)), 4), "of": len(found)} for name, found in sorted(tally.items())},
        "two seeds": {"differ": float(np.mean(differ)), "both in class": float(np.mean(stay)), "of": PAIRS},
        "quality": quality.summary(heard),
        "failures": failures,
    }


def references(sound: Sound) -> list[Audio]:
    """The synthesizer's sounds for a request: what it leaves open differs."""
    return [render(np.random.default_rng(seed), sound) for seed in range(REFERENCES)]


def table(results: dict[str, dict[str, Any]]) -> Iterator[str]:
    """The lines of a Markdown table, one column for each precision."""
    yield "| | " + " | ".join(results) + " |"
    yield "|---|" + "---|" * len(results)
    names = sorted({name for result in results.values() for name in result["checks"]})
    for name in names:
        cells = [f"{100 * r['checks'][name]['share']:.1f} % of {r['checks'][name]['of']}" for r in results.values()]
        yield f"| {name} | " + " | ".join(cells) + " |"
    for name, unit in (("differ", "two seeds differ"), ("both in class", "two seeds, both in class")):
        yield f"| {unit} | " + " | ".join(f"{100 * r['two seeds'][name]:.1f} % of {PAIRS}" for r in results.values()) + " |"
    for name, measure in quality.MEASURES.items():
        heard = [result["quality"].get(name) for result in results.values()]
        if any(heard):
            medians = " | ".join(f"{found['median']:.1f} {measure.unit}" if found else "" for found in heard)
            shares = " | ".join(f"{100 * found['share']:.1f} % of {found['of']}" if found else "" for found in heard)
            yield f"| {name}, median | {medians} |"
            yield f"| {name}, at most {measure.bound:g} {measure.unit} | {shares} |"
    of_autoencoder = [dict(measure_autoencoder.named(result.get("reconstruction", {}))) for result in results.values()]
    for name in max(of_autoencoder, key=len):
        yield f"| autoencoder, {name} | " + " | ".join(figures.get(name, "") for figures in of_autoencoder) + " |"


def say(message: str) -> None:
    """One line of progress."""
    print(message, flush=True)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Measure whether the model does what it is asked.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--precision", action="append", default=[], help="of the bundle; may be given more than once")
    parser.add_argument("--control", action="store_true", help="measure the synthesizer's own sounds as well")
    parser.add_argument("--count", type=int, default=420)
    parser.add_argument("--output", "-o", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    results: dict[str, dict[str, Any]] = {}
    for precision in arguments.precision:
        results[precision] = evaluate(of_bundle(arguments.bundle, precision), arguments.count, say)
        reconstruct = measure_autoencoder.of_bundle(arguments.bundle, precision)
        results[precision]["reconstruction"] = measure_autoencoder.measure(reconstruct)
    if arguments.control:
        results["synthesizer"] = evaluate(of_synthesizer, arguments.count, say)
    for line in table(results):
        print(line)
    if arguments.output:
        arguments.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
