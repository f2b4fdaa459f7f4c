"""Torch modules to ONNX files with external weights."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx.external_data_helper import set_external_data
from optimum.exporters.onnx import export as optimum_export
from optimum.exporters.onnx.config import TextEncoderOnnxConfig
from optimum.utils import NormalizedTextConfig
from torch import Tensor, nn

from sao_onnx_convert.export.builder import OPSET
from sao_onnx_convert.quiet import quiet

TEXT_OPSET = 18
"""Version of ONNX's operators in the text encoder's graph: the newest one of the TorchScript exporter, which optimum uses."""

MIN_EXTERNAL_BYTES = 1000
"""Size from which a tensor is stored in the file beside the graph. Smaller ones stay in the graph, where tools look for shapes
and axes."""

Axes = Mapping[int, str]
"""Dynamic axes of a tensor by position."""


def export_module(module: nn.Module, path: Path, inputs: Mapping[str, tuple[Tensor, Axes]], outputs: Sequence[str]) -> None:
    """Export a module with torch's exporter, its weights in one file beside the graph.

    onnxsim is not applied: this exporter folds constants itself. onnxsim added nodes to its DiT (307 to 324) and changed
    nothing in its decoder.

    Args:
        module: In evaluation mode.
        path: The `.onnx` file to write; the weights go to the same name with `.data` appended.
        inputs: Example tensor and dynamic axes of each input, in the order of `forward`. Axes of the same name are equal.
        outputs: Names of the outputs.
    """
    names = {axis for _, axes in inputs.values() for axis in axes.values()}
    dims = {name: torch.export.Dim(name) for name in names}
    shapes: tuple[Any, ...] = tuple({i: dims[name] for i, name in axes.items()} for _, axes in inputs.values())
    if any(p.kind is p.VAR_POSITIONAL for p in inspect.signature(module.forward).parameters.values()):
        # The exporter takes `*numbers` as one argument that is a tuple.
        shapes = (shapes,)
    with quiet(), torch.no_grad():
        program = torch.onnx.export(
            module,
            tuple(tensor for tensor, _ in inputs.values()),
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=shapes,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export returned no program")
    program.save(path, external_data=True)
    graph = onnx.load(path, load_external_data=False)
    remove_origin(graph)
    onnx.save(graph, path)
    onnx.checker.check_model(path)


class _TextEncoderExport(TextEncoderOnnxConfig):  # type: ignore[misc]
    """Inputs and outputs for optimum. Its own description of T5 has no mask, and its default task adds a decoder."""

    NORMALIZED_CONFIG_CLASS = NormalizedTextConfig

    @property
    def inputs(self) -> dict[str, dict[int, str]]:
        axes = {0: "batch", 1: "tokens"}
        return {"input_ids": axes, "attention_mask": axes}

    @property
    def outputs(self) -> dict[str, dict[int, str]]:
        return {"embeddings": {0: "batch", 1: "tokens"}}


def export_text_encoder(module: nn.Module, path: Path) -> None:
    """Export a text encoder with optimum, simplified by onnxsim (which halves the nodes of a T5).

    Args:
        module: Token ids and mask [batch, tokens] to embeddings [batch, tokens, width]. Its attribute `config` is that of the
            transformers model inside.
        path: The `.onnx` file to write; the weights go to the same name with `.data` appended.
    """
    from onnxsim import simplify

    with quiet():
        optimum_export(module, _TextEncoderExport(module.config, task="feature-extraction"), path, opset=TEXT_OPSET)
    graph = onnx.load(path)
    simplified, agrees = simplify(copy.deepcopy(graph))
    if agrees and len(simplified.graph.node) < len(graph.graph.node):
        graph = simplified
    remove_origin(graph)
    for leftover in path.parent.glob(f"{path.name}?data"):
        leftover.unlink()
    save(graph, path)


def save(graph: onnx.ModelProto, path: Path) -> None:
    """Write a graph with its weights in one file beside it, and check it.

    Args:
        graph: With its weights loaded.
        path: The `.onnx` file to write; the weights go to the same name with `.data` appended.
    """
    # Not `save_as_external_data`: it makes a unique name from the network card's address, and then does not use it.
    for tensor in graph.graph.initializer:
        if tensor.HasField("raw_data") and len(tensor.raw_data) >= MIN_EXTERNAL_BYTES:
            set_external_data(tensor, f"{path.name}.data")
    onnx.save(graph, path)
    onnx.checker.check_model(path)


def remove_origin(graph: onnx.ModelProto) -> None:
    """Remove stack traces and source paths, which are large and tell about this machine."""
    del graph.metadata_props[:]
    graph.doc_string = ""
    del graph.graph.metadata_props[:]
    graph.graph.doc_string = ""
    values = (*graph.graph.value_info, *graph.graph.input, *graph.graph.output)
    for item in (*graph.graph.node, *values, *graph.graph.initializer):
        del item.metadata_props[:]
        item.doc_string = ""
    # Shapes of inner tensors double the file, and ONNX Runtime infers them anyway.
    del graph.graph.value_info[:]
