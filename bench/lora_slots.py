"""What LoRAs at run time would cost on the 8-bit DiT, and how close they would come.

    python -m bench.lora_slots [--model models/stable-audio-open-small] [--blocks 2] [--rank 16] [--rounds 100]

Prints the tables of `lora-slots.md`. The DiT has random weights, and so has the LoRA. For the cost, every graph runs once in each
round, in another order each time, so that other work on the machine meets all of them; it is the median over the rounds of a
graph's time against that of the DiT without branches in the same round.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.common import THREADS, decibels, parser, processor
from sao_onnx.runtime.onnx_runtime import ort
from sao_onnx.runtime.sessions import DISABLED_OPTIMIZERS, ENTRIES, EXACT_INT8_MATMUL, int8_matmul_overflows
from sao_onnx_convert.export.builder import MICROSOFT, GraphBuilder
from sao_onnx_convert.family.stable_audio_open.networks.dit import DiffusionTransformer
from sao_onnx_convert.family.stable_audio_open.transformer import MatmulName, Matmuls, dit_graph, float_matmuls
from sao_onnx_convert.quantize.constants import INT8_MAX
from sao_onnx_convert.quantize.matmul import ROTATED, _quantize_rows, hadamard
from sao_onnx_convert.quantize.recipe import dit_matmuls
from sao_onnx_convert.source.config import parse_config

Array = np.ndarray[Any, np.dtype[Any]]

ATTENTION: tuple[MatmulName, ...] = ("qkv", "out", "query", "context_out")
ALL: tuple[MatmulName, ...] = (*ATTENTION, "gate", "down")
TOKENS = 65
HEADROOM = 2.4
"""Largest first product that 8 bits hold, in lengths of the row of A: eight deviations where values are a third of the largest."""
OTHER_SCALE = 0.961
"""Scales of weights that are rounded again, against the old ones: with the same ones, small changes would be rounded away."""


def fp32_matmuls(graph: GraphBuilder, x: str, matrices: Sequence[Array], name: MatmulName) -> list[str]:
    """`Matmuls` in single precision."""
    return float_matmuls(graph, x, matrices)


class Lora:
    """`Matmuls` with the same random LoRA in one of several forms.

    Args:
        form: Name of a method, without its underscore.
        rank: Of the LoRA.
        size: Deviation of its changes, against that of the weights.
        layers: Matmuls that it changes.
        base: The matmuls without it.
    """

    def __init__(
        self, form: str, rank: int, size: float = 0.02, layers: Collection[MatmulName] = ALL, base: Matmuls = dit_matmuls
    ) -> None:
        self._form: Callable[..., list[str]] = getattr(self, f"_{form}")
        self._rank, self._size, self._layers, self._base = rank, size, layers, base
        self._random = np.random.default_rng(0)

    def __call__(self, graph: GraphBuilder, x: str, matrices: Sequence[Array], name: MatmulName) -> list[str]:
        if name not in self._layers:
            return self._base(graph, x, matrices, name)
        down = self._random.standard_normal((len(matrices[0]), self._rank), dtype=np.float32) / self._rank**0.5
        ups = [
            self._random.standard_normal((self._rank, m.shape[1]), dtype=np.float32) * self._size * m.std() for m in matrices
        ]
        return self._form(graph, x, matrices, name, down, ups)

    def _merged(
        self, graph: GraphBuilder, x: str, matrices: Sequence[Array], name: MatmulName, down: Array, ups: list[Array]
    ) -> list[str]:
        return self._base(graph, x, [m + down @ up for m, up in zip(matrices, ups, strict=True)], name)

    def _add(
        self, graph: GraphBuilder, x: str, matrices: Sequence[Array], name: MatmulName, down: Array, ups: list[Array]
    ) -> list[str]:
        """Two matmuls and a sum."""
        inner = graph.node("MatMul", x, graph.own_constant(down))
        results = self._base(graph, x, matrices, name)
        changes = [graph.node("MatMul", inner, graph.own_constant(up)) for up in ups]
        return [graph.node("Add", y, change) for y, change in zip(results, changes, strict=True)]

    def _gemm(
        self, graph: GraphBuilder, x: str, matrices: Sequence[Array], name: MatmulName, down: Array, ups: list[Array]
    ) -> list[str]:
        """A matmul, and a `Gemm` that adds."""
        return self._plus(graph, graph.node("MatMul", x, graph.own_constant(down)), self._base(graph, x, matrices, name), ups)

    def _gemm8(
        self, graph: GraphBuilder, x: str, matrices: Sequence[Array], name: MatmulName, down: Array, ups: list[Array]
    ) -> list[str]:
        """The first product as one more 8-bit matmul, and a `Gemm` that adds."""
        *results, inner = self._base(graph, x, [*matrices, down], name)
        return self._plus(graph, inner, results, ups)

    def _plus(self, graph: GraphBuilder, inner: str, results: Sequence[str], ups: list[Array]) -> list[str]:
        inner, totals = graph.node("Reshape", inner, _shape(graph, -1, self._rank)), []
        for y, up in zip(results, ups, strict=True):
            flat = graph.node("Reshape", y, _shape(graph, -1, up.shape[1]))
            total = graph.node("Gemm", inner, graph.own_constant(up), flat)
            totals.append(graph.node("Reshape", total, _shape(graph, 1, -1, up.shape[1])))
        return totals

    def _first(
        self, graph: GraphBuilder, x: str, matrices: Sequence[Array], name: MatmulName, down: Array, ups: list[Array]
    ) -> list[str]:
        """The first product alone: what would be left if the second were free."""
        results = self._base(graph, x, matrices, name)
        one = graph.node("ReduceMax", graph.node("MatMul", x, graph.own_constant(down)), keepdims=0)
        return [graph.node("Add", results[0], one), *results[1:]]

    def _inside(
        self, graph: GraphBuilder, x: str, matrices: Sequence[Array], name: MatmulName, down: Array, ups: list[Array]
    ) -> list[str]:
        """Both products in 8 bits: B as further rows of the weights, A·x as further inputs."""
        if name == "down":
            x, (down, *matrices) = _rotated(graph, x, [down, *matrices])
        quantized, largest, scale, zero = _quantize_rows(graph, x)
        reach = HEADROOM * np.linalg.norm(down, axis=0)
        inner = _integer(graph, quantized, down / reach, _scales(down / reach), scale, zero)
        both = graph.node("Concat", quantized, graph.node("QuantizeLinear", inner, scale, zero), axis=-1)
        weights = [np.concatenate([m, up * reach[:, None]]) for m, up in zip(matrices, ups, strict=True)]
        return [graph.node("Mul", _integer(graph, both, each, _scales(each), scale, zero), largest) for each in weights]

    def _again(
        self, graph: GraphBuilder, x: str, matrices: Sequence[Array], name: MatmulName, down: Array, ups: list[Array]
    ) -> list[str]:
        """Merged into weights that are in 8 bits already, rounded a second time, with the same scales."""
        return self._rounded(graph, x, matrices, name, down, ups, 1.0)

    def _rescaled(
        self, graph: GraphBuilder, x: str, matrices: Sequence[Array], name: MatmulName, down: Array, ups: list[Array]
    ) -> list[str]:
        """The same with scales a little larger."""
        return self._rounded(graph, x, matrices, name, down, ups, OTHER_SCALE)

    def _rounded(
        self, graph: GraphBuilder, x: str, matrices: Any, name: str, down: Array, ups: Any, change: float
    ) -> list[str]:
        if name == "down":
            x, (down, *matrices) = _rotated(graph, x, [down, *matrices])
        quantized, largest, scale, zero = _quantize_rows(graph, x)
        results = []
        for matrix, up in zip(matrices, ups, strict=True):
            old = _scales(matrix)
            new = np.round(matrix / old) * old + down @ up
            wanted = np.maximum(old / change, _scales(new)).astype(np.float32)
            results.append(graph.node("Mul", _integer(graph, quantized, new, wanted, scale, zero), largest))
        return results


def _rotated(graph: GraphBuilder, x: str, matrices: Sequence[Array]) -> tuple[str, list[Array]]:
    """The input of a feed-forward's second matmul, and its matrices, as `rotated_row_matmuls` rotates them."""
    inputs, rotation = len(matrices[0]), hadamard(ROTATED)
    groups = graph.node("Reshape", x, _shape(graph, 0, 0, inputs // ROTATED, ROTATED))
    mixed = graph.node("MatMul", groups, graph.constant(rotation.astype(np.float32)))
    apart = [np.einsum("ij,bjo->bio", rotation.T, m.reshape(-1, ROTATED, m.shape[1])).reshape(m.shape) for m in matrices]
    return graph.node("Reshape", mixed, _shape(graph, 0, 0, inputs)), apart


def _integer(graph: GraphBuilder, x: str, matrix: Array, scales: Array, scale: str, zero: str) -> str:
    """An 8-bit matmul of quantized inputs."""
    parts = (np.round(matrix / scales).astype(np.int8), scales, np.zeros(len(scales), np.int8))
    weight, weight_scale, weight_zero = map(graph.own_constant, parts)
    return graph.node("MatMulIntegerToFloat", x, weight, scale, weight_scale, zero, weight_zero, domain=MICROSOFT)


def _scales(matrix: Array) -> Array:
    scales: Array = (np.abs(matrix).max(axis=0) / INT8_MAX).astype(np.float32)
    return scales


def _shape(graph: GraphBuilder, *shape: int) -> str:
    return graph.constant(np.array(shape, np.int64))


def dit_of(model: Path, blocks: int) -> tuple[DiffusionTransformer, int]:
    """A DiT with random weights and fewer blocks, and the latents of its window."""
    config = parse_config(json.loads((model / "model_config.json").read_text(encoding="utf-8")))
    torch.manual_seed(0)
    return DiffusionTransformer(dataclasses.replace(config.model.diffusion.config, depth=blocks)).eval(), config.window


def session_of(dit: DiffusionTransformer, window: int, matmuls: Matmuls, threads: int) -> ort.InferenceSession:
    """A session of the DiT, with the options of the engine's."""
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.enable_mem_pattern = False
    for key, value in (ENTRIES | (EXACT_INT8_MATMUL if int8_matmul_overflows() else {})).items():
        options.add_session_config_entry(key, value)
    graph = dit_graph(dit, window, matmuls).SerializeToString()
    return ort.InferenceSession(graph, options, ["CPUExecutionProvider"], disabled_optimizers=list(DISABLED_OPTIMIZERS))


def inputs_of(session: ort.InferenceSession, window: int) -> dict[str, Array]:
    """Random inputs."""
    random = np.random.default_rng(0)
    lengths = {"batch": 1, "tokens": TOKENS, "frames": window}
    return {
        node.name: random.standard_normal([lengths.get(axis, axis) for axis in node.shape], dtype=np.float32)
        for node in session.get_inputs()
    }


def times_of(sessions: dict[str, ort.InferenceSession], window: int, rounds: int) -> dict[str, Array]:
    """Wall and processor seconds of a step of each session, [rounds, 2]."""
    random, inputs = np.random.default_rng(0), inputs_of(next(iter(sessions.values())), window)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in sessions}
    for number in range(rounds + 2):
        for name in random.permutation(list(sessions)):
            wall, cpu = time.perf_counter(), time.process_time()
            sessions[name].run(None, inputs)
            if number >= 2:
                found[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {name: np.array(each) for name, each in found.items()}


COSTS: dict[str, tuple[str, Collection[MatmulName]]] = {
    "no branches, a second session": ("merged", ()),
    "all matmuls: MatMul and Add": ("add", ALL),
    "all matmuls: Gemm": ("gemm", ALL),
    "all matmuls: Gemm, A·x in 8 bits": ("gemm8", ALL),
    "attention only: Gemm": ("gemm", ATTENTION),
    "all matmuls, A·x alone": ("first", ALL),
    "all matmuls: A and B in 8 bits, inside the matmuls": ("inside", ALL),
}
FORMS = {
    "merged before the conversion": "merged",
    "branches in single precision": "gemm",
    "A and B in 8 bits, inside the matmuls": "inside",
    "merged into the 8-bit weights, same scales": "again",
    "merged into the 8-bit weights, other scales": "rescaled",
}


def print_costs(dit: DiffusionTransformer, window: int, rank: int, rounds: int) -> None:
    """Print what each form adds to a step."""
    for base, threads in ((dit_matmuls, 1), (dit_matmuls, THREADS), (fp32_matmuls, 1)):
        eight = base is dit_matmuls
        sessions = {"": session_of(dit, window, base, threads)}
        for name, (form, layers) in COSTS.items():
            if eight or form in ("merged", "add", "gemm"):
                sessions[name] = session_of(dit, window, Lora(form, rank, layers=layers, base=base), threads)
        times = times_of(sessions, window, rounds if eight else rounds // 3)
        ms = 1000 * np.median(times[""], axis=0) / len(dit.transformer.layers)
        print(f"| {'int8' if eight else 'fp32'} | {threads} | a block of the model | {ms[1]:.0f} ms | {ms[0]:.0f} ms |")
        for name in list(sessions)[1:]:
            low, middle, high = np.percentile(times[name] / times[""], [25, 50, 75], axis=0) - 1
            wall, cpu = (f"{middle[i]:+.1%} ({low[i]:+.1%} to {high[i]:+.1%})" for i in range(2))
            print(f"| {'int8' if eight else 'fp32'} | {threads} | {name} | {cpu} | {wall} |", flush=True)


def print_closeness(dit: DiffusionTransformer, window: int, rank: int) -> None:
    """Print how close each form comes to the merged model in single precision."""

    def velocity(matmuls: Matmuls) -> Array:
        session = session_of(dit, window, matmuls, THREADS)
        (result,) = session.run(None, inputs_of(session, window))
        return np.asarray(result, np.float64)

    plain, plain8 = velocity(fp32_matmuls), velocity(dit_matmuls)
    for size in (0.003, 0.01, 0.03, 0.1):
        exact = velocity(Lora("merged", rank, size, base=fp32_matmuls))
        effect = exact - plain
        print(f"size {size}: fp32 branches {np.abs(velocity(Lora('gemm', rank, size, base=fp32_matmuls)) - exact).max():.1e}")
        for name, form in FORMS.items():
            found = velocity(Lora(form, rank, size))
            share = ((found - plain8) * effect).sum() / (effect**2).sum()
            print(
                f"| {size:.1%} | {name} | {decibels(exact, found):.1f} | {share:.0%} | {decibels(effect, found - plain8):.1f}",
                flush=True,
            )


def main() -> None:
    """Measure, and print."""
    arguments = parser(__doc__)
    arguments.add_argument("--blocks", type=int, default=2)
    arguments.add_argument("--rank", type=int, default=16)
    arguments.add_argument("--rounds", type=int, default=100)
    given = arguments.parse_args()
    dit, window = dit_of(given.model, given.blocks)
    print(processor(), ort.__version__)
    print_costs(dit, window, given.rank, given.rounds)
    print_closeness(dit, window, given.rank)


if __name__ == "__main__":
    main()
