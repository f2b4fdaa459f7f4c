"""Measures how a bundle runs best on the machine at hand.

Boards and laptops differ too much for one built-in answer: in cores that are worth using, caches that tiles should fit, and
whether 8 bits are faster at all. What is measured is the engine's own stages on signals of their real size.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from sao_onnx.bundle.bundle import Bundle
from sao_onnx.bundle.manifest import Precision
from sao_onnx.running.loading import load_decoder, load_denoiser
from sao_onnx.runtime.machine import describe_machine
from sao_onnx.runtime.memory import estimate_peak
from sao_onnx.runtime.sessions import SessionFactory, default_threads
from sao_onnx.runtime.tuning import Tuning, default_tuning
from sao_onnx.sampling.noise import Noise
from sao_onnx.stages.conditioning import Conditioning

EXCERPT = 64
"""Latents that are decoded to compare ways of decoding: enough for several tiles of each size."""

RUNS = 2
"""Times that each candidate runs; the least counts, for other programs can only slow it down."""

WORTH = 0.97
"""Share of the best time so far that a candidate must fall below to replace it: less is chance."""


@dataclass(frozen=True)
class Trial:
    """A candidate that was measured.

    Attributes:
        part: "dit" (seconds are those of a step over the whole window) or "decoder" (those of `EXCERPT` latents).
        what: The setting that was tried, for a person.
        tuning: All settings.
        seconds: What it took.
        better: It is the best of its part so far.
    """

    part: str
    what: str
    tuning: Tuning
    seconds: float
    better: bool


def tune(bundle: Bundle, *, budget: float = 120.0) -> Iterator[Trial]:
    """Try settings one after the other, each from the best so far.

    The tuning of the last trial that is better is the winner: `best = trial.tuning if trial.better else best`.

    Args:
        bundle: What to tune.
        budget: Seconds after which no new candidate is begun.

    Yields:
        Each candidate once it is measured. The defaults come first, for the DiT and for the decoder.
    """
    deadline = time.monotonic() + budget
    threads = default_threads()
    best = default_tuning(bundle, bundle.precision(None), threads)
    for part, measure, settings in (
        ("dit", _time_dit, (_dit_precisions, _threads, _options)),
        ("decoder", _time_decoder, (_decoder_precisions, _workers, _tiles)),
    ):
        record = measure(bundle, best)
        yield Trial(part, "default", best, record, True)
        for candidates in settings:
            for what, tuning in candidates(bundle, best):
                if time.monotonic() > deadline:
                    break
                seconds = measure(bundle, tuning)
                better = seconds < WORTH * record
                if better:
                    best, record = tuning, seconds
                yield Trial(part, what, tuning, seconds, better)


Candidates = Iterator[tuple[str, Tuning]]


def _dit_precisions(bundle: Bundle, best: Tuning) -> Candidates:
    for precision in _other_precisions(bundle, best.dit):
        yield precision, replace(best, dit=precision)


def _decoder_precisions(bundle: Bundle, best: Tuning) -> Candidates:
    for precision in _other_precisions(bundle, best.decoder):
        yield precision, replace(best, decoder=precision)


def _other_precisions(bundle: Bundle, current: Precision) -> list[Precision]:
    """Those that fit into memory."""
    reachable = describe_machine().reachable
    others = [precision for precision in bundle.manifest.precisions if precision != current]
    return [precision for precision in others if reachable is None or estimate_peak(bundle, precision) <= reachable]


def _threads(bundle: Bundle, best: Tuning) -> Candidates:
    for count in _fewer(best.threads):
        yield f"threads {count}", replace(best, threads=count)


def _workers(bundle: Bundle, best: Tuning) -> Candidates:
    for count in _fewer(best.workers):
        yield f"workers {count}", replace(best, workers=count)


def _fewer(count: int) -> list[int]:
    """One less, for whatever else the machine does, and half, where two of them share a core."""
    return sorted({count - 1, count // 2} - {0, count}, reverse=True)


def _options(bundle: Bundle, best: Tuning) -> Candidates:
    yield "no spinning", replace(best, options=best.options | {"session.intra_op.allow_spinning": "0"})
    # Seen on an emulated core: with SME, KleidiAI takes products in single precision from `fmla` to `fmopa`; those in 8
    # bits keep theirs.
    if "sme" in (describe_machine().features or ()):
        yield "KleidiAI", replace(best, options=best.options | {"mlas.disable_kleidiai": "0"})


def _tiles(bundle: Bundle, best: Tuning) -> Candidates:
    """Half and twice each stage's tile, the last stage's first: it has the most work."""
    for stage in reversed(range(len(best.tiles))):
        for tile in (best.tiles[stage] // 2, best.tiles[stage] * 2):
            if tile >= 1:
                tiles = (*best.tiles[:stage], tile, *best.tiles[stage + 1 :])
                yield f"tiles {', '.join(map(str, tiles))}", replace(best, tiles=tiles)


def _time_dit(bundle: Bundle, tuning: Tuning) -> float:
    """Seconds of a step over the whole window."""
    manifest = bundle.manifest
    conditioning, latents = manifest.conditioning, manifest.latents
    tokens = conditioning.prompt.max_length + len(conditioning.cross_attention) - 1
    noise = Noise(0)
    denoiser = load_denoiser(bundle, tuning.dit, SessionFactory(tuning.threads, options=tuning.options))
    predict = denoiser.prediction(
        Conditioning(
            noise.normal((1, tokens, conditioning.width)),
            noise.normal((1, conditioning.width * len(conditioning.global_condition))),
        )
    )
    x = noise.normal((1, latents.channels, manifest.window_latents))
    return _least(lambda: predict(x, np.float32(0.5)))


def _time_decoder(bundle: Bundle, tuning: Tuning) -> float:
    """Seconds to decode an excerpt."""
    latents = bundle.manifest.latents
    length = min(EXCERPT, bundle.manifest.window_latents)
    decoder = load_decoder(bundle, tuning, SessionFactory(tuning.threads, options=tuning.options))
    x = Noise(0).normal((1, latents.channels, length))
    return _least(lambda: list(decoder(x, length * latents.ratio)))


def _least(work: Callable[[], object]) -> float:
    """The least time of several runs, after one that does not count."""
    work()
    times = []
    for _ in range(RUNS):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)
