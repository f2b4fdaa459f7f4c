"""What a processor is asked: products of every kind, `products FOLDER`, or a clip of a bundle, `clip BUNDLE PATH [STEPS]`.

Needs the engine and NumPy alone, so that an emulator has little to do.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import sao_onnx
from sao_onnx.running.loading import load_encoder
from sao_onnx.runtime.sessions import SessionFactory
from sao_onnx.sampling.noise import Noise

SECONDS = 0.4


def products(folder: Path) -> dict[str, np.ndarray]:
    """What every graph of a folder makes of the inputs beside it, by the graph's name and the input's."""
    factory, found = SessionFactory(1), {}
    for path in sorted(folder.glob("*.onnx")):
        session = factory.session(path)
        for name, x in np.load(path.with_suffix(".npz")).items():
            (found[f"{path.stem}/{name}"],) = session.run(None, {"x": x})
    return found


def clip(bundle: str, steps: int) -> dict[str, np.ndarray]:
    """Latents and samples of a clip in 8 bits, and the latents of a recording."""
    engine = sao_onnx.load(bundle, precision="int8", threads=1, tuned=False)
    made = engine.generate("128 BPM tech house drum loop", seconds=SECONDS, seed=3, steps=steps, normalize="none")
    encoder = load_encoder(engine.bundle, "int8", SessionFactory(1))
    audio = np.resize(made.samples, (1, len(made.samples), engine.manifest.latents.ratio * 4))
    return {"latents": made.latents, "samples": made.samples, "encoded": encoder(audio, Noise(1))}


def main(what: str, source: str, target: str, steps: str = "8") -> None:
    """Write what was found."""
    np.savez(target, **(products(Path(source)) if what == "products" else clip(source, int(steps))))  # type: ignore[arg-type]


if __name__ == "__main__":
    main(*sys.argv[1:])
