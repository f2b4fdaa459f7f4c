"""The graphs of a bundle, precision by precision: made, measured, described."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx

from sao_onnx.bundle.manifest import Graph, Precision, Role
from sao_onnx_convert.bundle.writer import describe_graph
from sao_onnx_convert.export.checks import TOLERANCE, measure, measure_chain, random_trials, require_close
from sao_onnx_convert.export.modules import save
from sao_onnx_convert.export.part import Part
from sao_onnx_convert.family.stable_audio_open.networks.autoencoder import Stage
from sao_onnx_convert.family.stable_audio_open.pipeline import TorchPipeline
from sao_onnx_convert.family.stable_audio_open.transformer import context_graph, dit_graph
from sao_onnx_convert.quantize import recipe
from sao_onnx_convert.quantize.calibration import collect_signals

Announce = Callable[[str], None]


def single_precision(folder: Path, parts: list[Part], announce: Announce) -> list[Graph]:
    """Export every part and compare it with its torch module.

    Args:
        folder: Of the bundle.
        parts: What to export.
        announce: Told each step before it begins, two for each part.

    Raises:
        ParityError: A graph differs from its module.
    """
    graphs = []
    for part in parts:
        path = _path(folder, "fp32", part.role)
        announce(f"exporting {part.role}")
        part.export(path)
        # The exporters leave reference cycles that hold whole networks.
        gc.collect()
        announce(f"checking {part.role}")
        closeness = measure(part, path, random_trials(part))
        require_close(part, closeness)
        graphs.append(
            describe_graph(
                folder, path, part.role, "fp32", max_error=closeness.max_error, snr=closeness.snr, tolerance=TOLERANCE
            )
        )
    return graphs


def eight_bit(
    folder: Path,
    parts: list[Part],
    exact: list[Graph],
    pipeline: TorchPipeline,
    stages: list[Stage],
    steps: int,
    announce: Announce,
) -> list[Graph]:
    """Make the 8-bit graph of every part and measure it on the model's own signals.

    A part that 8 bits would ruin (`recipe.RUINED`) stays in single precision; the decoder's graphs all do, or none.

    Args:
        folder: Of the bundle, its single-precision graphs written.
        parts: As for `single_precision`.
        exact: The single-precision graphs.
        pipeline: The model in PyTorch, which the calibration samples with.
        stages: The decoder's.
        steps: Sampling steps of the calibration.
        announce: Told each step before it begins: one, then two for each part but the number conditioner.
    """
    announce("calibrating")
    decoder_roles = tuple(part.role for part in parts if part.role.startswith("decoder"))
    signals = collect_signals(pipeline, stages, decoder_roles, steps)
    decoders = dict(zip(decoder_roles, recipe.decoder(stages, signals.latents), strict=True))
    graphs = []
    for part, graph in zip(parts, exact, strict=True):
        if part.role == "number_conditioner":
            # A tenth of a percent of the weights, and it runs once.
            graphs.append(replace(graph, precision="int8"))
            continue
        announce(f"quantizing {part.role}")
        path = _path(folder, "int8", part.role)
        if part.role in decoders:
            model = decoders[part.role](graph.inputs[0].name, graph.outputs[0].name)
        else:
            model = _quantized(folder / graph.path, part.role, pipeline)
        save(model, path)
        del model
        gc.collect()
        announce(f"measuring {part.role} in int8")
        bound: str = part.role
        if part.role == decoder_roles[-1]:
            # The decoder's bound is that of the whole: what the stages before it lose counts.
            bound = "decoder"
            closeness = measure_chain([_path(folder, "int8", role) for role in decoder_roles], signals.excerpt, signals.audio)
        else:
            closeness = measure(part, path, signals.trials[part.role])
        graphs.append(
            describe_graph(
                folder,
                path,
                part.role,
                "int8",
                max_error=closeness.max_error,
                snr=closeness.snr,
                min_snr=recipe.MIN_SNR.get(bound),
            )
        )
    return _without_ruined(folder, graphs, exact, decoder_roles)


def _without_ruined(folder: Path, graphs: list[Graph], exact: list[Graph], decoder_roles: tuple[Role, ...]) -> list[Graph]:
    """The 8-bit graphs, those of ruined parts replaced by the single-precision ones."""
    # The decoder is measured at its last graph.
    whole: dict[str, Graph] = {graph.role: graph for graph in graphs if graph.role not in decoder_roles}
    whole["decoder"] = next(graph for graph in graphs if graph.role == decoder_roles[-1])
    ruined = {role for role, least in recipe.RUINED.items() if whole[role].snr < least}
    if "decoder" in ruined:
        ruined |= set(decoder_roles)
    kept = [
        replace(single, precision="int8") if graph.role in ruined else graph
        for graph, single in zip(graphs, exact, strict=True)
    ]
    discard(folder, graphs, [*kept, *exact])
    return kept


def _quantized(exact: Path, role: Role, pipeline: TorchPipeline) -> onnx.ModelProto:
    """The 8-bit graph of a part other than the decoder's, built anew or rewritten from the single-precision one."""
    dit = pipeline.model.dit
    if role == "context":
        return context_graph(dit, recipe.linears)
    if role == "dit":
        return dit_graph(dit, pipeline.config.window, recipe.linears)
    model = onnx.load(exact)
    (recipe.text_encoder if role == "text_encoder" else recipe.audio_encoder)(model)
    return model


def discard(folder: Path, graphs: list[Graph], kept: list[Graph]) -> None:
    """Remove the files of graphs that no kept graph uses."""
    used = {path for graph in kept for path in (graph.path, *graph.weights)}
    for graph in graphs:
        for path in (graph.path, *graph.weights):
            if path not in used:
                (folder / path).unlink()


def _path(folder: Path, precision: Precision, role: Role) -> Path:
    path = folder / precision / f"{role}.onnx"
    path.parent.mkdir(exist_ok=True)
    return path
