"""Measures with which settings a bundle runs fastest on this machine.

No settings are best on all boards and laptops. They differ in the number of cores that are worth using, in the size of the
caches that a tile should fit into, and in whether int8 is faster than fp32 at all. The measurements run the engine's own stages
on inputs of their real size.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from sao_onnx.bundle.bundle import Bundle
from sao_onnx.bundle.manifest import Precision
from sao_onnx.running.excerpts import excerpt, one_step
from sao_onnx.running.loading import load_decoder, load_denoiser
from sao_onnx.runtime.machine import describe_machine
from sao_onnx.runtime.memory import estimate_peak
from sao_onnx.runtime.processor import available_processors
from sao_onnx.runtime.sessions import SessionFactory
from sao_onnx.runtime.tuning import Tuning, default_tuning

RUNS = 2
"""How often each candidate is measured. The shortest time counts, because other programs can only make it longer."""

MIN_IMPROVEMENT = 0.03
"""Part of the best time so far that a candidate must save to replace it. Smaller differences may be chance."""


@dataclass(frozen=True)
class Trial:
    """A candidate that was measured.

    Attributes:
        part: "dit" or "decoder".
        what: The setting that was changed, as a text for people.
        tuning: All settings of the candidate.
        seconds: For "dit", the time of one step over the whole window; for "decoder", that of `excerpts.EXCERPT` latents.
        better: It is the best candidate of its part so far.
    """

    part: str
    what: str
    tuning: Tuning
    seconds: float
    better: bool


def tune(bundle: Bundle, *, budget: float = 120.0) -> Iterator[Trial]:
    """Change one setting after the other, and keep each change that makes the bundle faster.

    The result is the tuning of the last trial that is better: `best = trial.tuning if trial.better else best`.

    Args:
        bundle: The model.
        budget: Seconds after which no further candidate is measured.

    Yields:
        Each candidate after it was measured. The first one of the DiT and the first one of the decoder are the defaults.
    """
    deadline = time.monotonic() + budget
    best = default_tuning(bundle, bundle.precision(None), available_processors())
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
                better = seconds < (1 - MIN_IMPROVEMENT) * record
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
    """The other precisions of the bundle that fit into memory."""
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
    """One less, which leaves a processor to other programs; and half, for machines where two processors share a core."""
    return sorted({count - 1, count // 2} - {0, count}, reverse=True)


def _options(bundle: Bundle, best: Tuning) -> Candidates:
    yield "no spinning", replace(best, options=best.options | {"session.intra_op.allow_spinning": "0"})
    # Seen on an emulated core: with SME, KleidiAI's single-precision matmul uses `fmopa` instead of `fmla`. The 8-bit matmul
    # does not change.
    if "sme" in (describe_machine().features or ()):
        yield "KleidiAI", replace(best, options=best.options | {"mlas.disable_kleidiai": "0"})


def _tiles(bundle: Bundle, best: Tuning) -> Candidates:
    """Half and twice the tile of each of the decoder's graphs. The last graph, which has the most work, comes first."""
    for i in reversed(range(len(best.tiles))):
        for tile in (best.tiles[i] // 2, best.tiles[i] * 2):
            if tile >= 1:
                tiles = (*best.tiles[:i], tile, *best.tiles[i + 1 :])
                yield f"tiles {', '.join(map(str, tiles))}", replace(best, tiles=tiles)


def _time_dit(bundle: Bundle, tuning: Tuning) -> float:
    """Seconds of one step over the whole window."""
    denoiser = load_denoiser(bundle, tuning.dit, SessionFactory(tuning.threads, options=tuning.options))
    return _shortest_time(one_step(bundle.manifest, denoiser))


def _time_decoder(bundle: Bundle, tuning: Tuning) -> float:
    """Seconds to decode `excerpts.EXCERPT` latents."""
    decoder = load_decoder(bundle, tuning, SessionFactory(tuning.threads, options=tuning.options))
    return _shortest_time(excerpt(bundle.manifest, decoder))


def _shortest_time(work: Callable[[], object]) -> float:
    """The shortest of several runs in seconds. A first run, which may be slower, does not count."""
    work()
    times = []
    for _ in range(RUNS):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)
