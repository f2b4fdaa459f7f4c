"""Runs each stage of a bundle once, on one thread.

    python stages.py BUNDLE PRECISION OUTPUTS

Writes the outputs to the file OUTPUTS (.npz), and prints the seconds of each stage and the peak of memory in bytes.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from sao_onnx.arrays import Array
from sao_onnx.bundle.bundle import Bundle, open_bundle
from sao_onnx.bundle.manifest import Precision
from sao_onnx.running.loading import load_conditioner, load_decoder, load_denoiser
from sao_onnx.runtime.process_memory import peak_memory
from sao_onnx.runtime.sessions import SessionFactory
from sao_onnx.runtime.tuning import default_tuning
from sao_onnx.sampling.noise import Noise
from sao_onnx.stages.conditioning import Conditioning

LATENTS = 2
"""Latents that are decoded."""


def run_stages(bundle: Bundle, precision: Precision, outputs: Path) -> dict[str, float]:
    """Run each stage once.

    Args:
        bundle: The model.
        precision: Precision of all stages.
        outputs: File for the outputs.

    Returns:
        Seconds of each stage, its loading included; and "peak memory" in bytes.
    """
    stages: dict[str, Callable[[Bundle, Precision, SessionFactory], Array]] = {
        "text encoder": _embeddings,
        "DiT, one step": _prediction,
        f"decoder, {LATENTS} latents": _audio,
    }
    factory, seconds, arrays = SessionFactory(1), {}, {}
    for name, stage in stages.items():
        began = time.perf_counter()
        arrays[name] = stage(bundle, precision, factory)
        seconds[name] = time.perf_counter() - began
    np.savez(outputs, **arrays)  # type: ignore[arg-type]
    return seconds | {"peak memory": float(peak_memory() or 0)}


def _embeddings(bundle: Bundle, precision: Precision, factory: SessionFactory) -> Array:
    numbers = {number.id: [11.0] for number in bundle.manifest.conditioning.numbers}
    return load_conditioner(bundle, precision, factory)(["128 BPM tech house drum loop"], numbers).cross_attention


def _prediction(bundle: Bundle, precision: Precision, factory: SessionFactory) -> Array:
    # Not the text encoder's output, so that its rounding does not count here as well.
    noise, config = Noise(1), bundle.manifest.conditioning
    tokens = config.prompt.max_length + len(config.cross_attention) - 1
    conditioning = Conditioning(
        noise.normal((1, tokens, config.width)), noise.normal((1, config.width * len(config.global_condition)))
    )
    x = noise.normal((1, bundle.manifest.latents.channels, bundle.manifest.window_latents))
    return load_denoiser(bundle, precision, factory).prediction(conditioning)(x, np.float32(0.9))


def _audio(bundle: Bundle, precision: Precision, factory: SessionFactory) -> Array:
    decoder = load_decoder(bundle, default_tuning(bundle, precision, 1), factory)
    latents = Noise(2).normal((1, bundle.manifest.latents.channels, LATENTS))
    return np.concatenate(list(decoder(latents, LATENTS * bundle.manifest.latents.ratio)), axis=-1)


if __name__ == "__main__":
    opened = open_bundle(sys.argv[1])
    print(json.dumps(run_stages(opened, opened.precision(sys.argv[2]), Path(sys.argv[3]))))
