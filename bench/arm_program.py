"""What `bench.arm` runs on a core: `forms FOLDER`, `passes BUNDLE PRECISION RESULTS`, `loaded BUNDLE CLIP`.

Needs the engine's packages and nothing else.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from sao_onnx.arrays import Array
from sao_onnx.bundle.bundle import Bundle, open_bundle
from sao_onnx.bundle.manifest import Precision
from sao_onnx.running.loading import load_conditioner, load_decoder, load_denoiser
from sao_onnx.runtime.machine import peak_memory
from sao_onnx.runtime.onnx_runtime import ort
from sao_onnx.runtime.sessions import ENTRIES, SessionFactory
from sao_onnx.runtime.tuning import default_tuning
from sao_onnx.sampling.noise import Noise
from sao_onnx.stages.conditioning import Conditioning

DTYPES: dict[str, Any] = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8, "tensor(int8)": np.int8}
RUNS = 3
LATENTS = 2
TEXT, STEP, TILE = "text encoder", "DiT, one step", "decoder, 2 latents"


def forms(folder: Path, *only: str) -> dict[str, float]:
    """Least seconds of each graph in a folder, on one thread."""
    found = {}
    for path in sorted(folder.glob("*.onnx")):
        if only and path.stem not in only:
            continue
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        for name, value in ENTRIES.items():
            options.add_session_config_entry(name, value)
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        [node] = session.get_inputs()
        inputs = {node.name: np.random.default_rng(0).integers(0, 100, node.shape).astype(DTYPES[node.type])}
        times = []
        for _ in range(RUNS):
            began = time.perf_counter()
            session.run(None, inputs)
            times.append(time.perf_counter() - began)
        found[path.stem] = min(times)
    return found


def passes(folder: Path, precision: Precision, results: Path) -> dict[str, float]:
    """Seconds of one pass of every submodel, and the peak of memory; their outputs go to a file."""
    bundle, factory = open_bundle(folder), SessionFactory(1)
    began = time.perf_counter()
    embeddings = _embeddings(bundle, precision, factory)
    conditioned = time.perf_counter()
    prediction = _prediction(bundle, precision, factory)
    sampled = time.perf_counter()
    audio = _audio(bundle, precision, factory)
    seconds = {TEXT: conditioned - began, STEP: sampled - conditioned, TILE: time.perf_counter() - sampled}
    arrays: dict[str, Any] = {TEXT: embeddings, STEP: prediction, TILE: audio}
    np.savez(results, **arrays)
    return seconds | {"peak memory": float(peak_memory() or 0)}


def _embeddings(bundle: Bundle, precision: Precision, factory: SessionFactory) -> Array:
    numbers = {number.id: [11.0] for number in bundle.manifest.conditioning.numbers}
    return load_conditioner(bundle, precision, factory)(["128 BPM tech house drum loop"], numbers).cross_attention


def _prediction(bundle: Bundle, precision: Precision, factory: SessionFactory) -> Array:
    # Not of the text encoder, so that its rounding is not counted here as well.
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


def loaded(bundle: str, clip: str) -> list[str]:
    """Files of the modules that a clip from the command line takes, its progress bar and messages included."""
    from rich.progress import Progress

    from sao_onnx.cli import app

    with Progress(), contextlib.redirect_stdout(io.StringIO()):
        app(["gen", "rain", "-m", bundle, "-o", clip, "--seconds", "0.5", "--force"], standalone_mode=False)
    files = (getattr(module, "__file__", None) for module in sys.modules.values())
    return sorted({file for file in files if file})


if __name__ == "__main__":
    _, what, *rest = sys.argv
    found: object
    if what == "forms":
        found = forms(Path(rest[0]), *rest[1:])
    elif what == "passes":
        found = passes(Path(rest[0]), "int8" if rest[1] == "int8" else "fp32", Path(rest[2]))
    else:
        found = loaded(*rest)
    sys.stdout.write(f"\n{json.dumps(found)}\n")
