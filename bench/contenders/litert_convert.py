"""LiteRT's models: the exported programs, the DiT's linears in dynamic int8 as Arm's demo of this model has them.

    python litert_convert.py FOLDER

Runs in the environment of `litert.txt`. Writes `litert/dit.tflite` and `litert/decoder.tflite`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import litert_torch
import torch
from ai_edge_quantizer import quantizer, recipe


def main() -> None:
    """Convert what is not there yet."""
    folder = Path(sys.argv[1])
    target = folder / "litert"
    target.mkdir(exist_ok=True)
    for name in ("decoder", "dit"):
        path = target / f"{name}.tflite"
        if path.exists():
            continue
        program = torch.export.load(folder / "programs" / f"{name}.pt2")
        model = litert_torch.convert(program.module(check_guards=False), program.example_inputs[0])
        wide = target / f"{name}.float.tflite" if name == "dit" else path
        model.export(str(wide))
        if name == "dit":
            linears = quantizer.Quantizer(str(wide), recipe.dynamic_wi8_afp32())
            linears.quantize().export_model(str(path), overwrite=True)
            wide.unlink()


if __name__ == "__main__":
    main()
