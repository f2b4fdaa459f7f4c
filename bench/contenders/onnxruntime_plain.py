"""ONNX Runtime with default options, on the graphs as torch's exporter writes them."""

from __future__ import annotations

from pathlib import Path

from bench.contenders.clip import Loader, Network, main
from sao_onnx.runtime.onnx_runtime import ort


def _loader(name: str) -> Loader:
    def load(folder: Path, variant: str, threads: int) -> Network:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        session = ort.InferenceSession(folder / "plain" / f"{name}.onnx", options, providers=["CPUExecutionProvider"])
        names = [node.name for node in session.get_inputs()]
        return lambda *arrays: session.run(None, dict(zip(names, arrays, strict=True)))[0]

    return load


if __name__ == "__main__":
    main(_loader("dit"), _loader("decoder"), _loader("text_encoder"))
