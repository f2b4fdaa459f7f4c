"""What the native operators gain: processor time of each 8-bit graph with and without them.

    python -m bench.operators [--folder scratch/bench] [--model models/stable-audio-open-small]

Needs the package of `engine/ops`. Writes `operators.md`. It counts the time of the process on one thread, not the time on the
clock, so other programs disturb it little. Uses the files that `bench.prepare` writes.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bench.common import STEPS, decibels, parser, prepared
from sao_onnx.arrays import Array
from sao_onnx.bundle.bundle import Bundle, open_bundle
from sao_onnx.bundle.manifest import Role
from sao_onnx.runtime.machine import describe_machine
from sao_onnx.runtime.native_operators import VARIABLE, NativeOperators, native_operators
from sao_onnx.runtime.sessions import GraphSession, SessionFactory

RUNS = 8
WAYS = ("off", "on")
"""Values of the environment variable: stock nodes, and native operators."""


def graph_inputs(bundle: Bundle, role: Role) -> dict[str, Array]:
    """Random inputs of a graph, of the sizes that a whole window has."""
    manifest, random = bundle.manifest, np.random.default_rng(0)
    frames = manifest.window_latents
    if role in manifest.decoder_roles[1:]:
        segment = manifest.decoder[manifest.decoder_roles.index(role)]
        frames = segment.tile * segment.rate + 2 * segment.context
    tokens = manifest.conditioning.prompt.max_length + len(manifest.conditioning.cross_attention) - 1
    axes = {"batch": 1, "tokens": tokens}
    inputs = {}
    for tensor in manifest.graph(role, "int8").inputs:
        shape = [axis if isinstance(axis, int) else axes.get(str(axis), frames) for axis in tensor.shape]
        inputs[tensor.name] = random.standard_normal(shape).astype(np.float32)
    return inputs


def runs_of(bundle: Bundle) -> dict[Role, int]:
    """How often each graph runs for a clip."""
    manifest = bundle.manifest
    tiles = {
        role: -(-manifest.window_latents // segment.tile)
        for role, segment in zip(manifest.decoder_roles[1:], manifest.decoder[1:], strict=True)
    }
    return {"dit": STEPS, manifest.decoder_roles[0]: 1, **tiles}


def report(bundle: Bundle) -> str:
    """Measure every graph with and without the operators; the report in Markdown."""
    native = _use("on")
    if native.library is None:
        raise SystemExit(f"there are no native operators: {native.reason}; pip install ./engine/ops")
    lines = [
        "# What the native operators gain (int8)",
        "",
        f"Milliseconds of the process on one thread, on {describe_machine().processor}: opening a graph, and the best of "
        f"{RUNS} runs; in parentheses the signal-to-noise ratio against stock nodes, where the outputs are not equal. Made by "
        "`python -m bench.operators`.",
        "",
        f"| graph | opening, stock nodes | {native.kernels} | runs of a clip | a run, stock nodes | {native.kernels} | ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    totals = Counter[str]()
    for role, count in runs_of(bundle).items():
        opening, running, outputs = _measured(bundle, role)
        totals.update({way: opening[way] for way in WAYS})
        totals.update({f"runs {way}": count * running[way] for way in WAYS})
        stock, own = (outputs[way] for way in WAYS)
        closeness = "" if np.array_equal(own, stock) else f" ({decibels(stock, own):.1f} dB)"
        lines.append(
            f"| {role} | {_row(opening)} | {count} | {_row(running)}{closeness} | {running['on'] / running['off']:.2f} |"
        )
    runs = {way: totals[f"runs {way}"] for way in WAYS}
    lines.append(f"| together | {_row(totals)} | a clip | {_row(runs)} | {runs['on'] / runs['off']:.2f} |")
    return "\n".join(lines) + "\n"


def _row(seconds: Mapping[str, float]) -> str:
    return " | ".join(f"{1000 * seconds[way]:.1f}" for way in WAYS)


def _use(way: str) -> NativeOperators:
    """Choose whether the sessions that are opened next have operators."""
    os.environ[VARIABLE] = way
    native_operators.cache_clear()
    return native_operators()


def _measured(bundle: Bundle, role: Role) -> tuple[dict[str, float], dict[str, float], dict[str, Array]]:
    """Seconds of opening and of running a graph, and its output, in each way.

    They take turns, so that a slow minute is everyone's.
    """
    graph, inputs = bundle.manifest.graph(role, "int8"), graph_inputs(bundle, role)
    sessions, opening, running, outputs = {}, {}, dict.fromkeys(WAYS, float("inf")), {}
    for way in WAYS:
        _use(way)
        began = time.process_time()
        sessions[way] = GraphSession(SessionFactory(1), bundle.path(graph.path), graph)
        opening[way] = time.process_time() - began
    for _ in range(RUNS):
        for way, session in sessions.items():
            began = time.process_time()
            outputs[way] = session.run(**inputs)[0]
            running[way] = min(running[way], time.process_time() - began)
    return opening, running, outputs


def main() -> None:
    """Measure, and write the report."""
    arguments = parser(__doc__).parse_args()
    prepared(arguments.folder, arguments.model)
    text = report(open_bundle(Path(arguments.folder) / "bundle"))
    arguments.results.mkdir(parents=True, exist_ok=True)
    (arguments.results / "operators.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
