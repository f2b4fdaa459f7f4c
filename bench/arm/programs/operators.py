"""Times the graphs of a folder on one thread.

    python operators.py FOLDER [NAME...]

Prints the shortest time of each graph in seconds, by the name of its file without suffix.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from sao_onnx.runtime.onnx_runtime import ort
from sao_onnx.runtime.sessions import ENTRIES

DTYPES: dict[str, Any] = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8, "tensor(int8)": np.int8}
RUNS = 3


def times(folder: Path, names: list[str]) -> dict[str, float]:
    """The shortest time of each graph in seconds, by name. Without names, all graphs of the folder are timed."""
    found = {}
    for path in sorted(folder.glob("*.onnx")):
        if names and path.stem not in names:
            continue
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        for name, value in ENTRIES.items():
            options.add_session_config_entry(name, value)
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        [node] = session.get_inputs()
        inputs = {node.name: np.random.default_rng(0).integers(0, 100, node.shape).astype(DTYPES[node.type])}
        measured = []
        for _ in range(RUNS):
            began = time.perf_counter()
            session.run(None, inputs)
            measured.append(time.perf_counter() - began)
        found[path.stem] = min(measured)
    return found


if __name__ == "__main__":
    print(json.dumps(times(Path(sys.argv[1]), sys.argv[2:])))
