"""Converts the exported programs for LiteRT. The DiT's linear layers are quantized to dynamic int8, as in Arm's demo.

    python litert_convert.py FOLDER

Runs in the environment "litert" of `environments.json`. Writes `litert/dit.tflite` and `litert/decoder.tflite`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import litert_torch
import torch
from ai_edge_quantizer import quantizer, recipe


def main() -> None:
    """Convert the programs that have not been converted yet."""
    folder = Path(sys.argv[1])
    target = folder / "litert"
    target.mkdir(exist_ok=True)
    for name in ("decoder", "dit"):
        path = target / f"{name}.tflite"
        if path.exists():
            continue
        program = torch.export.load(folder / "programs" / f"{name}.pt2")
        model = litert_torch.convert(program.module(check_guards=False), program.example_inputs[0])
        exported = target / f"{name}.float.tflite" if name == "dit" else path
        model.export(str(exported))
        if name == "dit":
            linear_layers = quantizer.Quantizer(str(exported), recipe.dynamic_wi8_afp32())
            linear_layers.quantize().export_model(str(path), overwrite=True)
            exported.unlink()


if __name__ == "__main__":
    main()
