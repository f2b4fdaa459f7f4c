"""What LoRAs at run time would cost on the 8-bit DiT, and how close they would come.

    python -m bench.lora_slots [--model models/stable-audio-open-small] [--blocks 2] [--rank 16] [--rounds 100]

Prints the tables of `lora-slots.md`. The DiT has random weights, and so has the LoRA. For the cost of a step, every graph
runs once in each round, in another order each time, so that other work on the machine meets all of them; it is the median over
the rounds of a graph's time against that of the DiT without branches in the same round.
"""

from __future__ import annotations

import dataclasses
import json
import math
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
"""Largest first product that 8 bits hold, in lengths of the row of A: eight deviations where the largest input has three."""
OTHER_SCALE = 0.961
"""Scales of weights that are rounded again, against the old ones: with the same ones, small changes would be rounded away."""


def fp32_matmuls(graph: GraphBuilder, x: str, matrices: Sequence[Array], name: MatmulName) -> list[str]:
    """`Matmuls` in single precision."""
    return float_matmuls(graph, x, matrices)


@dataclasses.dataclass(frozen=True)
class Product:
    """A value times several matrices that a LoRA changes by `down @ up`.

    Attributes:
        graph: Gets the nodes.
        x: Name of the value, [1, n, inputs].
        matrices: [inputs, outputs] each.
        name: Which of a block's matmuls it is.
        down: [inputs, rank].
        ups: [rank, outputs] for each matrix.
        base: The matmuls without the LoRA.
    """

    graph: GraphBuilder
    x: str
    matrices: Sequence[Array]
    name: MatmulName
    down: Array
    ups: Sequence[Array]
    base: Matmuls

    def unchanged(self, *more: Array) -> list[str]:
        """The products without the LoRA, and with further matrices."""
        return self.base(self.graph, self.x, [*self.matrices, *more], self.name)

    def inner(self) -> str:
        """The value times `down`, in single precision."""
        return self.graph.node("MatMul", self.x, self.graph.own_constant(self.down))


def merged(p: Product) -> list[str]:
    """One matrix, as if the LoRA had been merged before the conversion."""
    return p.base(p.graph, p.x, [m + p.down @ up for m, up in zip(p.matrices, p.ups, strict=True)], p.name)


def add(p: Product) -> list[str]:
    """Two more matmuls and a sum."""
    inner, results = p.inner(), p.unchanged()
    changes = [p.graph.node("MatMul", inner, p.graph.own_constant(up)) for up in p.ups]
    return [p.graph.node("Add", y, change) for y, change in zip(results, changes, strict=True)]


def gemm(p: Product) -> list[str]:
    """One more matmul, and a `Gemm` that adds."""
    return _plus(p, p.inner(), p.unchanged())


def gemm8(p: Product) -> list[str]:
    """The same, the first product in 8 bits."""
    *results, inner = p.unchanged(p.down)
    return _plus(p, inner, results)


def _plus(p: Product, inner: str, results: Sequence[str]) -> list[str]:
    inner, totals = p.graph.node("Reshape", inner, _shape(p.graph, -1, p.down.shape[1])), []
    for y, up in zip(results, p.ups, strict=True):
        flat = p.graph.node("Reshape", y, _shape(p.graph, -1, up.shape[1]))
        total = p.graph.node("Gemm", inner, p.graph.own_constant(up), flat)
        totals.append(p.graph.node("Reshape", total, _shape(p.graph, 1, -1, up.shape[1])))
    return totals


def first(p: Product) -> list[str]:
    """The first product alone: what would be left if the second were free."""
    results = p.unchanged()
    return [p.graph.node("Add", results[0], p.graph.node("ReduceMax", p.inner(), keepdims=0)), *results[1:]]


def inside(p: Product) -> list[str]:
    """Both products in 8 bits: B as further rows of the weights, A·x as further inputs."""
    x, down, *matrices = _rotated(p)
    rows = _quantize_rows(p.graph, x)
    quantized, largest, scale, zero = rows.quantized, rows.largest, rows.scale, rows.zero_point
    reach = HEADROOM * np.linalg.norm(down, axis=0)
    inner = _integer(p.graph, quantized, down / reach, _scales(down / reach), scale, zero)
    both = p.graph.node("Concat", quantized, p.graph.node("QuantizeLinear", inner, scale, zero), axis=-1)
    weights = [np.concatenate([m, up * reach[:, None]]) for m, up in zip(matrices, p.ups, strict=True)]
    return [p.graph.node("Mul", _integer(p.graph, both, w, _scales(w), scale, zero), largest) for w in weights]


def again(p: Product, change: float = 1.0) -> list[str]:
    """Merged into weights that are in 8 bits already, which are rounded a second time."""
    x, down, *matrices = _rotated(p)
    rows = _quantize_rows(p.graph, x)
    quantized, largest, scale, zero = rows.quantized, rows.largest, rows.scale, rows.zero_point
    results = []
    for matrix, up in zip(matrices, p.ups, strict=True):
        old = _scales(matrix)
        new = np.round(matrix / old) * old + down @ up
        wanted = np.maximum(old / change, _scales(new)).astype(np.float32)
        results.append(p.graph.node("Mul", _integer(p.graph, quantized, new, wanted, scale, zero), largest))
    return results


def rescaled(p: Product) -> list[str]:
    """The same with scales a little larger."""
    return again(p, OTHER_SCALE)


def with_lora(
    form: Callable[[Product], list[str]],
    rank: int,
    size: float = 0.02,
    layers: Collection[MatmulName] = ALL,
    base: Matmuls = dit_matmuls,
) -> Matmuls:
    """`Matmuls` with a random LoRA, the same in every form.

    Args:
        form: How it is computed.
        rank: Of the LoRA.
        size: Deviation of its changes, against that of the weights.
        layers: Matmuls that it changes.
        base: The matmuls without it.
    """
    random = np.random.default_rng(0)

    def matmuls(graph: GraphBuilder, x: str, matrices: Sequence[Array], name: MatmulName) -> list[str]:
        if name not in layers:
            return base(graph, x, matrices, name)
        down = random.standard_normal((len(matrices[0]), rank), dtype=np.float32) / np.float32(rank**0.5)
        ups = [random.standard_normal((rank, m.shape[1]), dtype=np.float32) * np.float32(size * m.std()) for m in matrices]
        return form(Product(graph, x, matrices, name, down, ups, base))

    return matmuls


def _rotated(p: Product) -> list[Any]:
    """The value, `down` and the matrices; those of a feed-forward's second matmul as `rotated_row_matmuls` rotates them."""
    if p.name != "down":
        return [p.x, p.down, *p.matrices]
    inputs, rotation = len(p.down), hadamard(ROTATED)
    groups = p.graph.node("Reshape", p.x, _shape(p.graph, 0, 0, inputs // ROTATED, ROTATED))
    mixed = p.graph.node("MatMul", groups, p.graph.constant(rotation.astype(np.float32)))
    both = [m.reshape(-1, ROTATED, m.shape[1]) for m in (p.down, *p.matrices)]
    apart = [np.einsum("ij,bjo->bio", rotation.T, m).reshape(inputs, -1) for m in both]
    return [p.graph.node("Reshape", mixed, _shape(p.graph, 0, 0, inputs)), *apart]


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
    return _opened(dit_graph(dit, window, matmuls).SerializeToString(), threads)


def _opened(graph: bytes, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.enable_mem_pattern = False
    for key, value in (ENTRIES | (EXACT_INT8_MATMUL if int8_matmul_overflows() else {})).items():
        options.add_session_config_entry(key, value)
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


Form = Callable[[Product], list[str]]
COSTS: dict[str, tuple[Form, Collection[MatmulName]]] = {
    "no branches, a second session": (merged, ()),
    "all matmuls: MatMul and Add": (add, ALL),
    "all matmuls: Gemm": (gemm, ALL),
    "all matmuls: Gemm, A·x in 8 bits": (gemm8, ALL),
    "attention only: Gemm": (gemm, ATTENTION),
    "all matmuls, A·x alone": (first, ALL),
    "all matmuls: A and B in 8 bits, inside the matmuls": (inside, ALL),
}
FORMS: dict[str, Form] = {
    "merged before the conversion": merged,
    "branches in single precision": gemm,
    "A and B in 8 bits, inside the matmuls": inside,
    "merged into the 8-bit weights, same scales": again,
    "merged into the 8-bit weights, other scales": rescaled,
}


def print_costs(dit: DiffusionTransformer, window: int, rank: int, rounds: int) -> None:
    """Print what each form adds to a step."""
    for base, threads in ((dit_matmuls, 1), (dit_matmuls, THREADS), (fp32_matmuls, 1)):
        eight = base is dit_matmuls
        sessions = {"": session_of(dit, window, base, threads)}
        for name, (form, layers) in COSTS.items():
            if eight or form in (merged, add, gemm):
                sessions[name] = session_of(dit, window, with_lora(form, rank, layers=layers, base=base), threads)
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

    print("| size | form | dB | share of the effect |")
    plain, plain8 = velocity(fp32_matmuls), velocity(dit_matmuls)
    for size in (0.003, 0.01, 0.03, 0.1):
        exact = velocity(with_lora(merged, rank, size, base=fp32_matmuls))
        effect = exact - plain
        branches = velocity(with_lora(gemm, rank, size, base=fp32_matmuls))
        print(f"{size:.1%}: branches on the model in single precision differ by {np.abs(branches - exact).max():.1e}")
        for name, form in FORMS.items():
            found = velocity(with_lora(form, rank, size))
            share = ((found - plain8) * effect).sum() / (effect**2).sum()
            print(f"| {size:.1%} | {name} | {decibels(exact, found):.1f} | {share:.0%} |", flush=True)


def print_matmuls(width: int, rank: int) -> None:
    """Print the processor time of a block's matmuls alone, on one thread: the shortest, which other work hardly touches."""
    square, wide = (width, width), (width, 4 * width)
    shapes = {"qkv": [square] * 3, "gate": [wide] * 2, "down": [wide[::-1]]}
    random, total = np.random.default_rng(0), dict[str, float]()
    for name in ALL:
        matrices = [random.standard_normal(shape, dtype=np.float32) for shape in shapes.get(name, [square])]
        x = random.standard_normal((1, 257, len(matrices[0])), dtype=np.float32)
        sessions = {"8 bits": _alone(dit_matmuls, x, matrices, name)}
        for title, form in {
            "add": add,
            "gemm": gemm,
            "gemm, A·x in 8 bits": gemm8,
            "A·x alone": first,
            "inside": inside,
        }.items():
            sessions[title] = _alone(with_lora(form, rank), x, matrices, name)
        shortest = dict.fromkeys(sessions, math.inf)
        for _ in range(100):
            for title, session in sessions.items():
                began = time.thread_time()
                session.run(None, {"x": x})
                shortest[title] = min(shortest[title], time.thread_time() - began)
        for title, seconds in shortest.items():
            total[title] = total.get(title, 0.0) + seconds
    for title, each in total.items():
        print(f"| {title} | {1000 * each:.1f} ms | {each / total['8 bits'] - 1:+.0%} |", flush=True)


def _alone(matmuls: Matmuls, x: Array, matrices: Sequence[Array], name: MatmulName) -> ort.InferenceSession:
    graph = GraphBuilder()
    # One number of each result leaves the graph, so that none is copied.
    corner = [_shape(graph, *[index] * 3) for index in (0, 1)]
    axes = _shape(graph, 0, 1, 2)
    names = [f"y{i}" for i in range(len(matrices))]
    for output, result in zip(names, matmuls(graph, "x", matrices, name), strict=True):
        graph.node("Slice", result, *corner, axes, output=output)
    shapes: dict[str, tuple[int | str, ...]] = {"x": x.shape, **dict.fromkeys(names, (1, 1, 1))}
    return _opened(graph.model("matmuls", ["x"], names, shapes).SerializeToString(), 1)


def main() -> None:
    """Measure, and print."""
    arguments = parser(__doc__)
    arguments.add_argument("--blocks", type=int, default=2)
    arguments.add_argument("--rank", type=int, default=16)
    arguments.add_argument("--rounds", type=int, default=100)
    given = arguments.parse_args()
    dit, window = dit_of(given.model, given.blocks)
    print(processor(), ort.__version__)
    print_matmuls(dit.transformer.project_in.out_features, given.rank)
    print_costs(dit, window, given.rank, given.rounds)
    print_closeness(dit, window, given.rank)


if __name__ == "__main__":
    main()
