"""What the native operators gain: processor time of each 8-bit graph with and without them.

    python -m bench.operators [--folder scratch/bench] [--model models/stable-audio-open-small]

Needs the package of `engine/ops`. Writes `operators.md`. It counts the time of the process on one thread, not the time on the
clock, so other programs disturb it little. Uses the files that `bench.prepare` writes.
"""

from __future__ import annotations

import os
import time
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
WAYS = ("off", "portable", "neon", "neon-dot", "avx2", "avx-vnni", "avx512-vbmi")
"""Values of the environment variable that chooses the kernels."""


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
    """Measure every graph with all kernels of this machine; the report in Markdown."""
    opened = {}
    for way in WAYS:
        if way in ("off", _use(way).kernels):
            opened[way] = SessionFactory(1)
    if len(opened) == 1:
        raise SystemExit(f"there are no native operators: {native_operators().reason}; pip install ./engine/ops")
    names = {way: "stock nodes" if way == "off" else way for way in opened}
    lines = [
        "# What the native operators gain (int8)",
        "",
        f"Milliseconds of the process for one run on one thread, the best of {RUNS}, on {describe_machine().processor}; in "
        "parentheses the signal-to-noise ratio against stock nodes, where the outputs are not equal. Made by "
        "`python -m bench.operators`.",
        "",
        "| graph | runs in a clip | " + " | ".join(names.values()) + " |",
        "|---|---|" + "---|" * len(names),
    ]
    totals = dict.fromkeys(opened, 0.0)
    for role, count in runs_of(bundle).items():
        spent, outputs = _measured(bundle, role, opened)
        cells = []
        for way in opened:
            totals[way] += count * spent[way]
            equal = np.array_equal(outputs[way], outputs["off"])
            cells.append(f"{1000 * spent[way]:.1f}" + ("" if equal else f" ({decibels(outputs['off'], outputs[way]):.1f} dB)"))
        lines.append(f"| {role} | {count} | " + " | ".join(cells) + " |")
    lines.append("| together | a clip | " + " | ".join(f"{1000 * total:.0f}" for total in totals.values()) + " |")
    lines.append("| in relation | | " + " | ".join(f"{total / totals['off']:.2f}" for total in totals.values()) + " |")
    return "\n".join(lines) + "\n"


def _use(way: str) -> NativeOperators:
    """Choose the kernels of the process, and whether the sessions that are opened next have operators."""
    os.environ[VARIABLE] = way
    native_operators.cache_clear()
    return native_operators()


def _measured(bundle: Bundle, role: Role, opened: dict[str, SessionFactory]) -> tuple[dict[str, float], dict[str, Array]]:
    """Seconds and output of a graph in each way. They take turns, so that a slow minute is everyone's."""
    graph, inputs = bundle.manifest.graph(role, "int8"), graph_inputs(bundle, role)
    sessions, best, outputs = {}, dict.fromkeys(opened, float("inf")), {}
    for way, factory in opened.items():
        _use(way)
        sessions[way] = GraphSession(factory, bundle.path(graph.path), graph)
    for _ in range(RUNS):
        for way, session in sessions.items():
            _use(way)  # All sessions share the library, and so its choice of kernels.
            began = time.process_time()
            outputs[way] = session.run(**inputs)[0]
            best[way] = min(best[way], time.process_time() - began)
    return best, outputs


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
