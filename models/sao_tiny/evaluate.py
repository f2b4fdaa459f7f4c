"""Does the model do what it is asked? Measured on its clips by signal processing, with prompts that training never used.

    python -m models.sao_tiny.evaluate BUNDLE --precision int8 --precision fp32 -o models/sao_tiny/results.json

Every prompt is an unseen combination (a kind at its pitch or tempo, or a kind with all adjectives); seeds are the numbers of
the sounds. The truth is the request itself.
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
from models.sao_tiny import listen
from models.sao_tiny.data import unseen_sound
from models.sao_tiny.features import features
from models.sao_tiny.requests import KINDS, WINDOW, Sound, describe, render
from models.sao_tiny.signals import SAMPLE_RATE
from models.sao_tiny.sounds import LOOPS, TONES, hertz
from sao_onnx.bundle import open_bundle
from sao_onnx.loading import load_decoder, load_encoder
from sao_onnx.noise import Noise
from sao_onnx.onnx_runtime import ort
from sao_onnx.sessions import SessionFactory
from sao_onnx.tuning import default_tuning

Audio = np.ndarray[Any, np.dtype[np.float32]]

FIRST = 9_000_000
PAIRS = 60
RECONSTRUCTIONS = 124


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


class Judge:
    """Names the kind of a clip."""

    def __init__(self) -> None:
        path = Path(__file__).parent / "classifier.onnx"
        self._session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def kind(self, audio: Audio) -> str:
        """The most likely of `KINDS`."""
        (logits,) = self._session.run(["logits"], {"spectrogram": features(audio)[None]})
        return KINDS[int(np.argmax(logits))]


def judge(sound: Sound, audio: Audio, judge: Judge) -> dict[str, bool]:
    """What of a request a clip of the whole window fulfils, by the name of the check; only checks that apply."""
    kind = judge.kind(audio)
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


def evaluate(bundle: Path, precision: str, count: int, say: Callable[[str], None]) -> dict[str, Any]:
    """All figures for one precision."""
    engine = sao_onnx.load(bundle, precision=precision)
    classifier = Judge()
    tally: dict[str, list[bool]] = {}
    failures = []
    chosen = examples(count)
    started = time.monotonic()
    for done, example in enumerate(chosen, start=1):
        audio = _generate(engine, example, example.number)
        checks = judge(example.sound, audio, classifier)
        for name, passed in checks.items():
            tally.setdefault(name, []).append(bool(passed))
        if not all(checks.values()):
            wrong = [name for name, passed in checks.items() if not passed]
            failures.append({"prompt": example.prompt, "seed": example.number, "failed": wrong})
        if done % 50 == 0:
            say(f"{precision}: {done} of {count} clips, {(time.monotonic() - started) / done:.2f} s each")
    differ, stay = [], []
    for example in chosen[-PAIRS:]:
        first, second = (_generate(engine, example, seed) for seed in (1, 2))
        differ.append(listen.si_sdr(first, second) < 20)
        stay.append(classifier.kind(first) == classifier.kind(second) == example.sound.kind)
    return {
        "checks": {name: {"share": round(float(np.mean(found)), 4), "of": len(found)} for name, found in sorted(tally.items())},
        "two seeds": {"differ": float(np.mean(differ)), "both in class": float(np.mean(stay)), "of": PAIRS},
        "reconstruction": reconstruction(bundle, precision),
        "failures": failures,
    }


def _generate(engine: sao_onnx.Engine, example: Example, seed: int) -> Audio:
    return engine.generate(example.prompt, seconds=example.sound.seconds, seed=seed, trim=False).samples


def reconstruction(bundle: Path, precision: str) -> dict[str, float]:
    """How well unseen sounds survive the autoencoder: in decibels, and the share that is still taken for what it is."""
    opened = open_bundle(bundle)
    held, factory = opened.precision(precision), SessionFactory(None, None, {})
    encoder = load_encoder(opened, held, factory)
    decoder = load_decoder(opened, default_tuning(opened, held, factory.threads), factory)
    classifier = Judge()
    sdr, distance, tones, stay = [], [], [], []
    for index in range(RECONSTRUCTIONS):
        rng, sound = unseen_sound(FIRST + index, KINDS[index % len(KINDS)])
        audio = render(rng, sound)
        decoded = np.concatenate(list(decoder(encoder(audio[None], Noise(index)), WINDOW)), axis=-1)[0]
        sdr.append(listen.si_sdr(decoded, audio))
        distance.append(listen.stft_distance(decoded, audio))
        stay.append(classifier.kind(decoded) == sound.kind)
        if sound.kind in TONES:
            tones.append(sdr[-1])
    return {
        "si_sdr": round(float(np.median(sdr)), 2),
        "si_sdr of tones": round(float(np.median(tones)), 2),
        "stft distance": round(float(np.mean(distance)), 2),
        "class": round(float(np.mean(stay)), 4),
    }


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
    cells = [f"{100 * r['reconstruction']['class']:.1f} % of {RECONSTRUCTIONS}" for r in results.values()]
    yield "| autoencoder, class | " + " | ".join(cells) + " |"
    for name in ("si_sdr", "si_sdr of tones", "stft distance"):
        yield f"| autoencoder, {name} | " + " | ".join(f"{r['reconstruction'][name]:.1f} dB" for r in results.values()) + " |"


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Measure whether the model does what it is asked.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--precision", action="append", required=True)
    parser.add_argument("--count", type=int, default=420)
    parser.add_argument("--output", "-o", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    results = {}
    for precision in arguments.precision:
        results[precision] = evaluate(arguments.bundle, precision, arguments.count, lambda text: print(text, flush=True))
    for line in table(results):
        print(line)
    if arguments.output:
        arguments.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
