"""sao-onnx in `int8` or `fp32`. Each stage is dropped after use, as `sao-onnx gen` does."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import cast

import sao_onnx
from bench.common import PROMPT, SEED
from bench.contenders.clip import Clock
from sao_onnx.bundle.manifest import Precision
from sao_onnx.events import Finished


def main() -> None:
    """Make the clip that the command line describes."""
    folder, variant, threads, steps = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    engine = sao_onnx.load(folder / "bundle", precision=cast(Precision, variant), threads=threads, keep_loaded=False)
    clock = Clock()
    for event in engine.stream(PROMPT, seed=SEED, steps=steps, normalize="none"):
        if isinstance(event, Finished):
            clip = event.clip
    spent = clip.timings
    clock.seconds = {name: getattr(spent, name) for name in ("load", "conditioning", "sampling", "decoding")}
    clock.report(folder, f"ours-{variant}", latents=clip.latents, samples=clip.samples)


if __name__ == "__main__":
    main()
