"""What the autoencoder alone leaves of a sound, on sounds that training never used: no transformer can be better.

    python -m models.sao_tiny.measure_autoencoder BUNDLE --precision fp32 -o autoencoder.json

Any function from audio to audio can be measured: `measure(reconstruct)`.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.sao_tiny import listen, quality, timbre
from models.sao_tiny.data import unseen_sound
from models.sao_tiny.kind_classifier import FIRST, KindClassifier
from models.sao_tiny.requests import KINDS, WINDOW, Sound, render
from models.sao_tiny.sounds import TONES
from sao_onnx.bundle.bundle import open_bundle
from sao_onnx.running.loading import load_decoder, load_encoder
from sao_onnx.runtime.sessions import SessionFactory
from sao_onnx.runtime.tuning import default_tuning
from sao_onnx.sampling.noise import Noise

Audio = np.ndarray[Any, np.dtype[np.float32]]
Reconstruct = Callable[[Audio], Audio]
Mapped = Callable[[Callable[[int], tuple[Sound, list[Audio]]], Iterable[int]], Iterable[tuple[Sound, list[Audio]]]]

COUNT = 124
TAKES = 5
"""Of drums, with other noise, to the nearest of which their attack is compared."""

PARTIAL_BOUND, SIDE_BOUND = 3.0, 1.0
"""Decibels by which a partial and a side may be off."""

SHARES = ("class", "partials within 3 dB", "tones within 3 dB", "side kept")
"""Figures that are shares; all others are decibels, or measures of `quality`."""


@dataclass(frozen=True)
class Reconstruction:
    """What was found of one sound.

    Attributes:
        sound: The truth about it.
        heard_as: The kind that the classifier takes the result for.
        si_sdr: Of the result against the sound, in decibels.
        distance: Of their spectrograms, in decibels.
        side: By how many decibels the result stands elsewhere.
        partials: By how many decibels each partial of a tone is louder.
        quality: Measures of `quality`, against the sound itself.
    """

    sound: Sound
    heard_as: str
    si_sdr: float
    distance: float
    side: float
    partials: np.ndarray[Any, np.dtype[np.float64]]
    quality: dict[str, float]


def measure(reconstruct: Reconstruct, count: int = COUNT, mapped: Mapped = map) -> dict[str, float]:
    """All figures of an autoencoder; see `figures`.

    Args:
        reconstruct: From float32 [2, `WINDOW`] to the same shape: through the encoder and the decoder.
        count: How many unseen sounds, of all kinds in turn.
        mapped: Makes the sounds, which takes as long as all else together; `map` of an executor of processes makes them beside.
    """
    return figures(reconstructions(reconstruct, count, mapped))


def example(index: int) -> tuple[Sound, list[Audio]]:
    """An unseen sound and its audio; of a drum in several takes, for it is up to noise which burst of a clap is the loudest."""
    rng, sound = unseen_sound(FIRST + index, KINDS[index % len(KINDS)])
    takes = range(TAKES if sound.kind in quality.DRUMS else 1)
    return sound, [render(copy.deepcopy(rng), sound, take) for take in takes]


def reconstructions(reconstruct: Reconstruct, count: int = COUNT, mapped: Mapped = map) -> Iterator[Reconstruction]:
    """What is found of each of `count` unseen sounds."""
    classifier = KindClassifier()
    for sound, references in mapped(example, range(count)):
        audio = references[0]
        decoded = reconstruct(audio)
        tone = sound.kind in TONES
        yield Reconstruction(
            sound=sound,
            heard_as=classifier.kind(decoded),
            si_sdr=listen.si_sdr(decoded, audio),
            distance=listen.stft_distance(decoded, audio),
            side=listen.side(decoded) - listen.side(audio),
            partials=timbre.partial_differences(decoded, audio, quality.partials(sound)) if tone else np.zeros(0),
            quality=quality.measure(sound, decoded, references),
        )


def figures(found: Iterable[Reconstruction]) -> dict[str, float]:
    """The figures of many reconstructions.

    Returns:
        `class`: share that the classifier still takes for what it is. `si_sdr`, `si_sdr of tones`: medians, in decibels.
        `stft distance`: mean, in decibels. `partials within 3 dB`: share of all partials of tones up to 6 kHz;
        `tones within 3 dB`: share of tones of which all are; `worst partial`: median over tones, in decibels. `side kept`:
        share within 1 dB. And of each of `quality.MEASURES` its median and, as `... within bound`, the share of clips that are
        well done.
    """
    clips = list(found)
    tones = [clip for clip in clips if clip.sound.kind in TONES]
    off = [np.abs(clip.partials) for clip in tones if len(clip.partials)]
    result = {
        "class": _share(clip.heard_as == clip.sound.kind for clip in clips),
        "si_sdr": _median(clip.si_sdr for clip in clips),
        "si_sdr of tones": _median(clip.si_sdr for clip in tones),
        "stft distance": round(float(np.mean([clip.distance for clip in clips])), 2),
        "partials within 3 dB": _share(np.concatenate([np.zeros(0), *off]) <= PARTIAL_BOUND),
        "tones within 3 dB": _share(tone.max() <= PARTIAL_BOUND for tone in off),
        "worst partial": _median(tone.max() for tone in off),
        "side kept": _share(abs(clip.side) < SIDE_BOUND for clip in clips),
    }
    for name, values in quality.summary(clip.quality for clip in clips).items():
        result[name] = values["median"]
        result[f"{name} within bound"] = values["share"]
    return {name: value for name, value in result.items() if np.isfinite(value)}


def _share(passed: Iterable[Any]) -> float:
    found = list(passed)
    return round(float(np.mean(found)), 4) if found else float("nan")


def _median(values: Iterable[float]) -> float:
    found = list(values)
    return round(float(np.median(found)), 2) if found else float("nan")


def of_bundle(bundle: Path, precision: str) -> Reconstruct:
    """The autoencoder of a bundle, in one of its precisions."""
    opened = open_bundle(bundle)
    held, factory = opened.precision(precision), SessionFactory(None, None, {})
    encoder = load_encoder(opened, held, factory)
    decoder = load_decoder(opened, default_tuning(opened, held, factory.threads), factory)
    seeds = itertools.count()

    def reconstruct(audio: Audio) -> Audio:
        decoded: Audio = np.concatenate(list(decoder(encoder(audio[None], Noise(next(seeds))), WINDOW)), axis=-1)[0]
        return decoded

    return reconstruct


def named(result: dict[str, float]) -> Iterator[tuple[str, str]]:
    """Figures as text: what each is, and its value with its unit."""
    for name, value in result.items():
        of = name.removesuffix(" within bound")
        if of in quality.MEASURES and of != name:
            yield f"{of}, at most {quality.MEASURES[of].bound:g} {quality.MEASURES[of].unit}", f"{100 * value:.1f} %"
        elif of in quality.MEASURES:
            yield name, f"{value:.1f} {quality.MEASURES[of].unit}"
        else:
            yield name, f"{100 * value:.1f} %" if name in SHARES else f"{value:.1f} dB"


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Measure what an autoencoder leaves of sounds.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--output", "-o", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    # Not forked: a fork would share the threads' locks of ONNX Runtime.
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as workers:
        reconstruct = of_bundle(arguments.bundle, arguments.precision)
        found = list(reconstructions(reconstruct, arguments.count, workers.map))
    result = figures(found)
    for name, value in named(result):
        print(f"{name}: {value}")
    for clip in found:
        if clip.heard_as != clip.sound.kind:
            print(f"  {clip.sound.kind} taken for {clip.heard_as}")
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
