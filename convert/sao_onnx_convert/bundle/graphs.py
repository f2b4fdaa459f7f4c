"""The graphs of a bundle in each precision: made, measured and described."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import onnx

from sao_onnx.bundle.manifest import DECODER_ROLES, Graph, Precision, Role
from sao_onnx_convert.bundle.description import describe_graph
from sao_onnx_convert.export.checks import TOLERANCE, Closeness, measure, measure_chain, random_trials, require_close
from sao_onnx_convert.export.modules import save
from sao_onnx_convert.export.part import Part
from sao_onnx_convert.family.stable_audio_open import parts as model_parts
from sao_onnx_convert.family.stable_audio_open.networks.autoencoder import DecoderSegment
from sao_onnx_convert.family.stable_audio_open.pipeline import TorchPipeline
from sao_onnx_convert.family.stable_audio_open.transformer import context_graph, dit_graph
from sao_onnx_convert.quantize import recipe
from sao_onnx_convert.quantize.calibration import Signals, collect_signals

OTHER_PARTS = 5
"""Parts of the model that become graphs, besides the decoder's segments."""

Announce = Callable[[str], None]
"""Is told each step before it begins."""


def step_count(segments: int, precisions: Sequence[str]) -> int:
    """How many steps `make_graphs` announces for so many decoder segments."""
    parts = OTHER_PARTS + segments
    # Each part is exported and checked. In 8 bits there is a calibration, and all parts but one are quantized and measured.
    return 2 * parts + (1 + 2 * (parts - 1) if "int8" in precisions else 0)


def make_graphs(
    folder: Path, precisions: Sequence[str], pipeline: TorchPipeline, segments: Sequence[DecoderSegment], announce: Announce
) -> tuple[Graph, ...]:
    """Write the graphs of every precision that is asked for.

    The 8-bit graphs are made from the single-precision ones, which are written in any case and removed if nothing uses them.

    Args:
        folder: Of the bundle.
        precisions: Those of the bundle.
        pipeline: The model in PyTorch.
        segments: Its decoder's.
        announce: Is told each step before it begins.

    Raises:
        ParityError: A graph differs from its module.
    """
    model, config = pipeline.model, pipeline.config
    parts = [
        model_parts.text_encoder(pipeline.t5, model, config),
        model_parts.number_conditioner(model, config),
        model_parts.context(model, config),
        model_parts.dit(model, config),
        *model_parts.decoder(segments, config),
        model_parts.encoder(model, config),
    ]
    float_graphs = [_float_graph(folder, part, announce) for part in parts]
    graphs = list(float_graphs)
    if "int8" in precisions:
        graphs += _int8_graphs(folder, parts, float_graphs, _Int8Graphs(pipeline, segments, announce))
    kept = [graph for graph in graphs if graph.precision in precisions]
    _remove_unused(folder, graphs, kept)
    return tuple(kept)


def _float_graph(folder: Path, part: Part, announce: Announce) -> Graph:
    """Export a part in single precision, and compare it with its torch module."""
    path = _path(folder, "fp32", part.role)
    announce(f"exporting {part.role}")
    part.export(path)
    # The exporters leave reference cycles that hold whole networks.
    gc.collect()
    announce(f"checking {part.role}")
    closeness = measure(part, path, random_trials(part))
    require_close(part, closeness)
    return describe_graph(folder, path, part.role, "fp32", closeness, tolerance=TOLERANCE)


class _Int8Graphs:
    """Makes and measures graphs in 8 bits.

    Args:
        pipeline: The model in PyTorch.
        segments: Its decoder's.
        announce: Is told each step before it begins.
    """

    def __init__(self, pipeline: TorchPipeline, segments: Sequence[DecoderSegment], announce: Announce) -> None:
        self._pipeline = pipeline
        self._announce = announce
        announce("calibrating")
        self._signals: Signals = collect_signals(pipeline, segments)
        self._decoder_roles = DECODER_ROLES[: len(segments)]
        self._decoder_builders = dict(zip(self._decoder_roles, recipe.decoder(segments, self._signals.latents), strict=True))

    def make(self, folder: Path, part: Part, float_graph: Graph) -> Graph:
        """Write the 8-bit graph of a part, and measure it on the model's own signals."""
        self._announce(f"quantizing {part.role}")
        path = _path(folder, "int8", part.role)
        save(self._build(folder / float_graph.path, part.role, float_graph), path)
        gc.collect()
        self._announce(f"measuring {part.role} in int8")
        # The decoder's bound is for the whole decoder, with what its first segments lose. It is measured at its last graph.
        bounded = "decoder" if part.role == self._decoder_roles[-1] else part.role
        min_snr = recipe.MIN_SNR.get(bounded)
        return describe_graph(folder, path, part.role, "int8", self._measure(folder, part, path), min_snr=min_snr)

    def _build(self, float_path: Path, role: Role, float_graph: Graph) -> onnx.ModelProto:
        """The graph in 8 bits, built anew or changed from the single-precision one."""
        dit = self._pipeline.model.dit
        if role in self._decoder_builders:
            return self._decoder_builders[role](float_graph.inputs[0].name, float_graph.outputs[0].name)
        if role == "context":
            return context_graph(dit, recipe.dit_matmuls)
        if role == "dit":
            return dit_graph(dit, self._pipeline.config.window, recipe.dit_matmuls, recipe.dit_feed_forward)
        model = onnx.load(float_path)
        (recipe.text_encoder if role == "text_encoder" else recipe.audio_encoder)(model)
        return model

    def _measure(self, folder: Path, part: Part, path: Path) -> Closeness:
        if part.role == self._decoder_roles[-1]:
            paths = [_path(folder, "int8", role) for role in self._decoder_roles]
            return measure_chain(paths, self._signals.excerpt, self._signals.audio)
        return measure(part, path, self._signals.trials[part.role])


def _int8_graphs(folder: Path, parts: Sequence[Part], float_graphs: Sequence[Graph], maker: _Int8Graphs) -> list[Graph]:
    """The 8-bit graph of every part; the single-precision one where 8 bits would ruin it."""
    graphs = [
        # The number conditioners hold a thousandth of the weights, and run once.
        replace(graph, precision="int8") if part.role == "number_conditioner" else maker.make(folder, part, graph)
        for part, graph in zip(parts, float_graphs, strict=True)
    ]
    ruined = _ruined(graphs)
    kept = [
        replace(float_graph, precision="int8") if graph.role in ruined else graph
        for graph, float_graph in zip(graphs, float_graphs, strict=True)
    ]
    _remove_unused(folder, graphs, [*kept, *float_graphs])
    return kept


def _ruined(graphs: Sequence[Graph]) -> set[Role]:
    """Roles that 8 bits would ruin (`recipe.RUINED`). The decoder's graphs stay together, and are judged by the last one."""
    snr = {graph.role: graph.snr for graph in graphs}
    decoder_roles = [role for role in DECODER_ROLES if role in snr]
    groups: dict[str, list[Role]] = {**{role: [role] for role in snr}, "decoder": decoder_roles}
    return {role for name, limit in recipe.RUINED.items() if snr[groups[name][-1]] < limit for role in groups[name]}


def _remove_unused(folder: Path, graphs: Sequence[Graph], kept: Sequence[Graph]) -> None:
    """Remove the files of graphs that no kept graph uses."""
    used = {path for graph in kept for path in (graph.path, *graph.weights)}
    for path in {path for graph in graphs for path in (graph.path, *graph.weights)} - used:
        (folder / path).unlink()


def _path(folder: Path, precision: Precision, role: Role) -> Path:
    path = folder / precision / f"{role}.onnx"
    path.parent.mkdir(exist_ok=True)
    return path
