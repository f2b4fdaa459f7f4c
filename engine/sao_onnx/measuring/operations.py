"""How many multiplications and additions a clip takes, counted in the graphs of a bundle.

Only matmuls, convolutions and attention are counted: what is left is less than a hundredth of the operations, though not of the
time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sao_onnx.bundle.bundle import Bundle
from sao_onnx.bundle.manifest import Precision, Role
from sao_onnx.running.excerpts import context_tokens
from sao_onnx.runtime.sessions import run_nodes

Shape = Sequence[int]

MATMULS = ("MatMul", "MatMulInteger", "MatMulIntegerToFloat", "MatMulNBits", "Gemm", "FusedMatMul", "DynamicQuantizeMatMul")
CONVOLUTIONS = ("Conv", "QLinearConv", "ConvInteger", "FusedConv")

KERNEL_INPUT = {"Conv": 1, "FusedConv": 1, "ConvInteger": 1, "QLinearConv": 3, "ConvTranspose": 1}
"""Which input of a convolution holds its weights."""


@dataclass(frozen=True)
class Operations:
    """Multiplications and additions of a clip of the whole window, each counted as one.

    Attributes:
        text: Text encoder and number conditioners, on the tokens of the prompt.
        context: What the DiT's cross-attention reads of the prompt.
        step: The DiT, once.
        steps: How often it runs: as often as the bundle's sampler has steps, twice where guidance is its default.
        decoder: The decoder, without the overlap of its tiles.
    """

    text: int
    context: int
    step: int
    steps: int
    decoder: int

    @property
    def clip(self) -> int:
        """All of them."""
        return self.text + self.context + self.steps * self.step + self.decoder


def node_operations(operator: str, inputs: Sequence[Shape], output: Shape) -> int:
    """Multiplications and additions of one node; 0 for an operator that is not counted.

    Args:
        operator: Its type.
        inputs: Shapes of its inputs, those that it leaves out left out.
        output: Shape of its output.
    """
    made = math.prod(output)
    if operator in MATMULS:
        # Each row of the output is a row of the first input by the second; the first may be transposed.
        return 2 * made * (math.prod(inputs[0]) * output[-1] // made) if made else 0
    if operator in CONVOLUTIONS:
        return 2 * made * math.prod(inputs[KERNEL_INPUT[operator]][1:])
    if operator == "ConvTranspose":
        return 2 * math.prod(inputs[0]) * math.prod(inputs[KERNEL_INPUT[operator]][1:])
    if operator == "MultiHeadAttention":
        batch, queries, width = inputs[0]
        return 4 * batch * queries * inputs[1][1] * width
    return 0


def clip_operations(bundle: Bundle, dit: Precision, decoder: Precision, *, tokens: int) -> Operations:
    """Count the operations of a clip. Every graph is run once, which takes about as long as a step and a tile.

    Args:
        bundle: The model.
        dit: Precision of the DiT and of what is before it.
        decoder: Precision of the decoder.
        tokens: Tokens of the prompt.

    Raises:
        BundleError: A graph cannot be run.
    """
    manifest = bundle.manifest
    sizes = {"batch": 1, "tokens": tokens}
    text = sum(_graph_operations(bundle, role, dit, sizes) for role in manifest.stage_roles("conditioner"))
    sizes = {"batch": 1, "tokens": context_tokens(manifest), "frames": manifest.window_latents}
    context, step = (_graph_operations(bundle, role, dit, sizes) for role in manifest.stage_roles("denoiser"))
    guided = 2 if manifest.sampling.cfg_scale != 1 else 1
    made = 0
    for role, segment in zip(manifest.decoder_roles, manifest.decoder, strict=True):
        latents = segment.tile or manifest.window_latents
        counted = _graph_operations(bundle, role, decoder, {"batch": 1, "frames": latents * segment.rate})
        made += counted * manifest.window_latents // latents
    return Operations(text, guided * context, step, guided * manifest.sampling.steps, made)


def _graph_operations(bundle: Bundle, role: Role, precision: Precision, sizes: Mapping[str, int]) -> int:
    """Operations of one run of a graph.

    Args:
        bundle: The model.
        role: Of the graph.
        precision: Of the graph.
        sizes: Of the axes that are not fixed, by name. An axis that is named after a tensor has as many frames.
    """
    graph = bundle.manifest.graph(role, precision)
    inputs = {}
    for tensor in graph.inputs:
        shape = [size if isinstance(size, int) else sizes.get(size, sizes.get("frames", 1)) for size in tensor.shape]
        inputs[tensor.name] = np.ones(shape, tensor.dtype)
    with bundle.opening([graph.path, *graph.weights]):
        return sum(map(_record_operations, run_nodes(bundle.path(graph.path), inputs)))


def _record_operations(record: Mapping[str, Any]) -> int:
    (output, *_), inputs = _shapes(record["output_type_shape"]) or [[]], _shapes(record["input_type_shape"])
    return node_operations(record["op_name"], inputs, output)


def _shapes(described: Sequence[Mapping[str, Shape]]) -> list[Shape]:
    return [shape for tensor in described for shape in tensor.values()]
