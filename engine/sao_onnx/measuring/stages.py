"""How long each stage of a bundle takes, alone, and a whole clip."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from sao_onnx.bundle.bundle import Bundle
from sao_onnx.engine import Engine
from sao_onnx.measuring.rates import SPENT, Clock, shortest
from sao_onnx.measuring.report import Clip, Stage
from sao_onnx.running.excerpts import excerpt, excerpt_length, one_step
from sao_onnx.running.loading import load_conditioner, load_decoder, load_denoiser
from sao_onnx.runtime.process_memory import return_freed_memory
from sao_onnx.runtime.sessions import SessionFactory
from sao_onnx.stages.tokenizer import Tokenizer

PROMPT = "128 BPM tech house drum loop"
SEED = 42

T = TypeVar("T")


def prompt_tokens(bundle: Bundle) -> int:
    """Tokens of `PROMPT`."""
    _, mask = Tokenizer(bundle.path(bundle.manifest.tokenizer), bundle.manifest.conditioning.prompt)([PROMPT])
    return int(mask.sum())


def measured_stages(engine: Engine, *, spent: float = SPENT, clock: Clock = time.perf_counter) -> Iterator[str | Stage]:
    """Load and run each stage as an engine does, one after the other.

    Args:
        engine: Its bundle, precisions, threads and tiles are used; what it has loaded is not.
        spent: As for `shortest`.
        clock: As for `shortest`.

    Yields:
        The name of each stage before it is measured, and the stage after it.
    """
    bundle, tuning = engine.bundle, engine.tuning
    manifest = bundle.manifest
    factory = SessionFactory(engine.threads, options=tuning.options)
    numbers = {number.id: [number.default] for number in manifest.conditioning.numbers}

    def text() -> tuple[float, Callable[[], object]]:
        loaded, conditioner = timed(lambda: load_conditioner(bundle, engine.precision, factory))
        return loaded, lambda: conditioner([PROMPT], numbers)

    def dit() -> tuple[float, Callable[[], object]]:
        loaded, denoiser = timed(lambda: load_denoiser(bundle, tuning.dit, factory))
        return loaded, one_step(manifest, denoiser)

    def decoder() -> tuple[float, Callable[[], object]]:
        loaded, opened = timed(lambda: load_decoder(bundle, tuning, factory))
        return loaded, excerpt(manifest, opened)

    def timed(load: Callable[[], T]) -> tuple[float, T]:
        # What stages before this one have left.
        return_freed_memory()
        began = clock()
        value = load()
        return clock() - began, value

    for name, what, work, opening in (
        ("text", "text encoder", "a prompt", text),
        ("dit", "DiT", "a step", dit),
        ("decoder", "decoder", f"{excerpt_length(manifest)} latents", decoder),
    ):
        yield what
        loaded, run = opening()
        yield Stage(name, work, loaded, shortest(run, spent=spent, clock=clock))
        del run  # It holds the stage, whose memory is meant for the next one.


def expected_clip(engine: Engine, stages: dict[str, Stage], passes: int) -> Clip:
    """A clip of the whole window, added up from the stages.

    Args:
        engine: Its bundle says how long the window is.
        stages: By name.
        passes: How often the DiT runs.
    """
    manifest = engine.bundle.manifest
    text, sampling = stages["text"].run, passes * stages["dit"].run
    decoding = stages["decoder"].run * manifest.window_latents / excerpt_length(manifest)
    load = sum(stage.load for stage in stages.values())
    return Clip(text + sampling + decoding, load, False, text, sampling, decoding)


def measured_clip(engine: Engine) -> Clip:
    """Make a clip of the whole window.

    Args:
        engine: Nothing of it is loaded, or loading does not count.
    """
    spent = engine.generate(PROMPT, seed=SEED).timings
    return Clip(spent.total - spent.load, spent.load, True, spent.conditioning, spent.sampling, spent.decoding)
