"""OpenVINO on the graphs as torch's exporter writes them, in `f32` or `bf16`."""

from __future__ import annotations

from pathlib import Path

import openvino

from bench.contenders.clip import Loader, Network, main


def _loader(name: str) -> Loader:
    def load(folder: Path, variant: str, threads: int) -> Network:
        settings = {"INFERENCE_PRECISION_HINT": variant, "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
        model = openvino.Core().compile_model(folder / "plain" / f"{name}.onnx", "CPU", settings)
        return lambda *arrays: model(list(arrays))[0].copy()

    return load


if __name__ == "__main__":
    main(_loader("dit"), _loader("decoder"), _loader("text_encoder"))
