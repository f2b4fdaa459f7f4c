"""How much time each operator of the int8 graphs takes.

    python -m bench.profile [--folder scratch/bench] [--model models/stable-audio-open-small]

Writes `profile.md`, with native operators `profile-with-operators.md`. Uses the files that `bench.prepare` writes.
"""

from __future__ import annotations

import collections
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.common import THREADS, parser, prepared
from sao_onnx.bundle.bundle import Bundle, open_bundle
from sao_onnx.bundle.manifest import Role
from sao_onnx.runtime.native_operators import native_operators
from sao_onnx.runtime.onnx_runtime import ort
from sao_onnx.runtime.processor import processor_name
from sao_onnx.runtime.sessions import DISABLED_OPTIMIZERS, EXACT_INT8_MATMUL, int8_matmul_overflows
from sao_onnx_convert.export.builder import GraphBuilder
from sao_onnx_convert.family.stable_audio_open.transformer import float_matmuls
from sao_onnx_convert.quantize.matmul import row_matmuls

Array = np.ndarray[Any, np.dtype[Any]]

RUNS = 5
LIMIT = 4096
"""Rows and columns of the matrices whose matmul shows how fast the machine can compute."""


def main() -> None:
    """Measure, and write the report."""
    arguments = parser(__doc__).parse_args()
    prepared(arguments.folder, arguments.model)
    text = report(open_bundle(arguments.folder / "bundle"))
    arguments.results.mkdir(parents=True, exist_ok=True)
    name = "profile.md" if native_operators().library is None else "profile-with-operators.md"
    (arguments.results / name).write_text(text, encoding="utf-8")
    print(text)


def report(bundle: Bundle) -> str:
    """Measure the DiT and the decoder's graphs; the report in Markdown."""
    manifest = bundle.manifest
    lines = [
        "# Time of each operator (int8)",
        "",
        f"Milliseconds of one run by operator, mean of {RUNS}. The DiT and the decoder's first graph have {THREADS} threads, "
        f"the decoder's tiles one thread, as in a clip. {processor_name()}; native operators: {native_operators()}. Made by "
        "`python -m bench.profile`.",
        "",
        f"For comparison, a matmul of two square matrices of {LIMIT} rows, with its quantization, on {THREADS} threads: "
        f"{_limit('int8'):.0f} GOP/s in 8 bits, {_limit('fp32'):.0f} in single precision.",
    ]
    roles: tuple[Role, ...] = ("dit", *manifest.decoder_roles)
    for role in roles:
        tiled = role in manifest.decoder_roles[1:]
        spent = _operators(bundle, role, 1 if tiled else THREADS)
        whole = sum(spent.values())
        what = "a step" if role == "dit" else "a tile" if tiled else "a clip"
        lines += ["", f"## {role}: {1000 * whole:.1f} ms for {what}", "", "| operator | ms | share |", "|---|---|---|"]
        lines += [f"| {name} | {1000 * time:.1f} | {time / whole:.0%} |" for name, time in spent.most_common(10)]
    return "\n".join(lines) + "\n"


def _operators(bundle: Bundle, role: Role, threads: int) -> collections.Counter[str]:
    """Seconds of each operator in one run."""
    graph = bundle.manifest.graph(role, "int8")
    options = _options(threads)
    options.enable_profiling = True
    if library := native_operators().library:
        options.register_custom_ops_library(str(library))
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        path = bundle.path(graph.path)
        session = ort.InferenceSession(path, options, ["CPUExecutionProvider"], disabled_optimizers=list(DISABLED_OPTIMIZERS))
        random = np.random.default_rng(0)
        lengths = {"batch": 1, "tokens": bundle.manifest.conditioning.prompt.max_length + 1, "frames": _frames(bundle, role)}
        lengths |= {f"{node.name}_frames": lengths["frames"] for node in session.get_inputs()}
        inputs = {
            node.name: random.random([lengths.get(axis, axis) for axis in node.shape], dtype=np.float32)
            for node in session.get_inputs()
        }
        for _ in range(1 + RUNS):
            session.run(None, inputs)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    runs = [event["ts"] for event in events if event["name"] == "model_run"]
    spent: collections.Counter[str] = collections.Counter()
    for event in events:
        if event["name"].endswith("_kernel_time") and event["ts"] > sorted(runs)[1]:
            spent[event["args"]["op_name"]] += event["dur"] / 1e6 / RUNS
    return spent


def _frames(bundle: Bundle, role: Role) -> int:
    """Frames of a graph's input: the whole window, or a tile with its context on both sides."""
    manifest = bundle.manifest
    if role == "dit":
        return manifest.window_latents
    segment = manifest.decoder[manifest.decoder_roles.index(role)]
    return segment.tile * segment.rate + 2 * segment.context if segment.tile else manifest.window_latents


def _limit(precision: str) -> float:
    """Speed of a large matmul in 10⁹ operations per second."""
    random = np.random.default_rng(0)
    matrix = random.standard_normal((LIMIT, LIMIT), dtype=np.float32)
    graph = GraphBuilder()
    (product,) = (row_matmuls if precision == "int8" else float_matmuls)(graph, "x", [matrix])
    # Only the largest value is returned, so that the time does not include copying the result.
    graph.node("ReduceMax", product, graph.constant(np.array([1, 2], np.int64)), output="y", keepdims=0)
    model = graph.model("limit", ["x"], ["y"], {"x": (1, LIMIT, LIMIT), "y": (1,)})
    session = ort.InferenceSession(model.SerializeToString(), _options(THREADS), ["CPUExecutionProvider"])
    times = []
    for _ in range(1 + RUNS):
        began = time.perf_counter()
        session.run(None, {"x": matrix[None]})
        times.append(time.perf_counter() - began)
    return 2 * LIMIT**3 / min(times) / 1e9


def _options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    for name, value in (EXACT_INT8_MATMUL if int8_matmul_overflows() else {}).items():
        options.add_session_config_entry(name, value)
    return options


if __name__ == "__main__":
    main()
