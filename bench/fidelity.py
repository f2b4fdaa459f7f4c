"""What int8 changes: in each graph, in each layer, and in finished clips.

    python -m bench.fidelity [--folder scratch/bench] [--model models/stable-audio-open-small]

Writes `fidelity.json` and `fidelity.md`. Uses the files that `bench.prepare` writes.
"""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from bench.clip_fidelity import CLIPS, clip_fidelity, prompt_fidelity
from bench.common import decibels, parser, prepared, processor
from sao_onnx.bundle.bundle import Bundle, open_bundle
from sao_onnx_convert.export.builder import GraphBuilder
from sao_onnx_convert.export.checks import measure
from sao_onnx_convert.export.modules import save
from sao_onnx_convert.export.part import Part
from sao_onnx_convert.family.stable_audio_open.networks.autoencoder import (
    DecoderBlock,
    ResidualUnit,
    split_decoder,
    without_parametrization,
)
from sao_onnx_convert.family.stable_audio_open.parts import context, dit, text_encoder
from sao_onnx_convert.family.stable_audio_open.pipeline import TorchPipeline
from sao_onnx_convert.family.stable_audio_open.transformer import MatmulName, Matmuls, context_graph, dit_graph, float_matmuls
from sao_onnx_convert.quantize import recipe
from sao_onnx_convert.quantize.calibration import Signals, collect_signals
from sao_onnx_convert.quantize.matmul import quantize_matmuls, rotated_row_matmuls, row_matmuls
from sao_onnx_convert.quantize.ranges import ActivationRange, ChannelRange, Observer, quantization
from sao_onnx_convert.quantize.weights import store_tables_in_int8

Array = np.ndarray[Any, np.dtype[Any]]

PROMPTS = 1000
"""Prompts with which T5 is compared."""


def main() -> None:
    """Measure, and write the report."""
    options = parser(__doc__)
    options.add_argument("--prompts", type=int, default=PROMPTS, help="for T5")
    arguments = options.parse_args()
    prepared(arguments.folder, arguments.model)
    report = fidelity(arguments.folder, arguments.prompts)
    arguments.results.mkdir(parents=True, exist_ok=True)
    (arguments.results / "fidelity.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    (arguments.results / "fidelity.md").write_text(table(report), encoding="utf-8")
    print(table(report))


def fidelity(folder: Path, prompts: int) -> dict[str, Any]:
    """Measure everything.

    Args:
        folder: What `bench.prepare` wrote.
        prompts: Number of prompts with which T5 is compared.
    """
    bundle = open_bundle(folder / "bundle")
    report: dict[str, Any] = {
        "processor": processor(),
        "parts": [
            {"role": graph.role, "precision": graph.precision, "snr": graph.snr, "wanted": graph.min_snr}
            for graph in bundle.manifest.graphs
        ],
        "clips": [clip_fidelity(bundle, prompt, seed) for prompt, seed in CLIPS],
        "prompts": prompt_fidelity(bundle, prompts),
    }
    pipeline = TorchPipeline.load(folder / "checkpoint", folder / "checkpoint" / "t5")
    pipeline.model.requires_grad_(False)
    strides = pipeline.config.model.pretransform.config.decoder.config.strides
    segments = split_decoder(pipeline.model.autoencoder.decoder, strides)
    signals = collect_signals(pipeline, segments)
    report["dit"] = _dit(pipeline, signals)
    report["text_encoder"] = _text_encoder(bundle, pipeline, signals)
    report["decoder"] = _decoder(pipeline, signals)
    return report


def _dit(pipeline: TorchPipeline, signals: Signals) -> list[dict[str, Any]]:
    """The DiT with one kind of matmul at a time in 8 bits, and with each in other forms."""
    names: tuple[MatmulName, ...] = ("qkv", "out", "query", "context_out", "gate", "down")
    everything = recipe.dit_matmuls
    variants: list[tuple[str, Matmuls]] = [(f"{name} alone", _only(name, everything)) for name in names]
    variants += [(f"all but {name}", _all_but(name)) for name in names]
    variants += [
        ("down alone, not rotated", _only("down", lambda graph, x, matrices, name: row_matmuls(graph, x, matrices))),
        ("gate alone, rotated", _only("gate", lambda graph, x, matrices, name: rotated_row_matmuls(graph, x, matrices))),
        ("all, none rotated", lambda graph, x, matrices, name: row_matmuls(graph, x, matrices)),
        ("all, all rotated", lambda graph, x, matrices, name: rotated_row_matmuls(graph, x, matrices)),
        ("the recipe", everything),
    ]
    part = dit(pipeline.model, pipeline.config)
    model = pipeline.model.dit
    found = [
        {"what": what, "snr": _snr(dit_graph(model, pipeline.config.window, form), part, signals)} for what, form in variants
    ]
    part = context(pipeline.model, pipeline.config)
    found.append({"what": "context", "snr": _snr(context_graph(model, everything), part, signals)})
    return found


def _only(product: MatmulName, form: Matmuls) -> Matmuls:
    def matmuls(graph: GraphBuilder, x: str, matrices: Sequence[Array], name: MatmulName) -> list[str]:
        return form(graph, x, matrices, name) if name == product else float_matmuls(graph, x, matrices, name)

    return matmuls


def _all_but(product: MatmulName) -> Matmuls:
    def matmuls(graph: GraphBuilder, x: str, matrices: Sequence[Array], name: MatmulName) -> list[str]:
        return float_matmuls(graph, x, matrices, name) if name == product else recipe.dit_matmuls(graph, x, matrices, name)

    return matmuls


def _text_encoder(bundle: Bundle, pipeline: TorchPipeline, signals: Signals) -> list[dict[str, Any]]:
    """T5 with one kind of layer at a time in 8 bits."""
    source = bundle.path(bundle.manifest.graph("text_encoder", "fp32").path)
    part = text_encoder(pipeline.t5, pipeline.model, pipeline.config)
    kinds = {
        "attention, q k v": ("/q/", "/k/", "/v/"),
        "attention, out": ("/o/",),
        "feed-forward, in": ("/wi",),
        "feed-forward, out": ("/wo/",),
    }
    found = []
    for what, marks in kinds.items():
        model = onnx.load(source)
        quantize_matmuls(model, functools.partial(_named, marks))
        found.append({"what": what, "snr": _snr(model, part, signals)})
    for what, change in (("table of tokens", store_tables_in_int8), ("the recipe", recipe.text_encoder)):
        model = onnx.load(source)
        change(model)
        found.append({"what": what, "snr": _snr(model, part, signals)})
    return found


def _named(marks: Sequence[str], name: str) -> bool:
    return any(mark in name for mark in marks)


def _snr(model: onnx.ModelProto, part: Part, signals: Signals) -> float:
    """Decibels of a graph against its module, on the model's own signals; the worst trial counts."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.onnx"
        save(model, path)
        return measure(part, path, signals.trials[part.role]).snr


@torch.no_grad()
def _decoder(pipeline: TorchPipeline, signals: Signals) -> list[dict[str, Any]]:
    """The decoder with one layer at a time in 8 bits, rounded in PyTorch as the graphs round."""
    decoder = without_parametrization(pipeline.model.autoencoder.decoder)
    observer = Observer(decoder)
    for latents in signals.latents:
        decoder(latents)
    seen = observer.finish()
    exact = decoder(signals.excerpt).numpy()
    layers = dict(_layers(decoder))
    convs = [conv for group in layers.values() for conv in group]
    variants: list[tuple[str, list[nn.Module], bool, bool]] = [
        *((name, group, True, True) for name, group in layers.items()),
        ("all, weights alone", convs, True, False),
        ("all, activations alone", convs, False, True),
        ("all", convs, True, True),
    ]
    found = []
    for what, group, weights, activations in variants:
        with _Rounded(group, seen, weights, activations):
            rounded = decoder(signals.excerpt).numpy()
        centred = [array - array.mean(axis=2, keepdims=True) for array in (exact, rounded)]
        found.append({"what": what, "snr": decibels(exact, rounded), "snr_without_mean": decibels(*centred)})
    return found


def _layers(decoder: nn.Module) -> Iterator[tuple[str, list[nn.Module]]]:
    blocks = [module for module in decoder.modules() if isinstance(module, DecoderBlock)]
    for i, block in enumerate(blocks, start=1):
        for module in block.layers:
            if isinstance(module, nn.ConvTranspose1d):
                yield f"block {i}, upsampling", [module]
            elif isinstance(module, ResidualUnit):
                dilation = cast(nn.Conv1d, module.layers[1]).dilation[0]
                yield f"block {i}, unit of dilation {dilation}", [m for m in module.modules() if isinstance(m, nn.Conv1d)]


class _Rounded:
    """Rounds input, weight and output of convolutions to 8 bits while it is entered. Biases stay as they are."""

    def __init__(
        self, convs: Sequence[nn.Module], seen: dict[nn.Module, ActivationRange], weights: bool, activations: bool
    ) -> None:
        self._convs, self._seen, self._weights, self._activations = convs, seen, weights, activations

    def __enter__(self) -> None:
        self._hooks, self._kept = [], []
        for conv in self._convs:
            if self._weights:
                weight = cast(Tensor, conv.weight)
                self._kept.append((weight, weight.clone()))
                axes = (0, 2) if isinstance(conv, nn.ConvTranspose1d) else (1, 2)
                step = weight.abs().amax(dim=axes, keepdim=True) / 127
                weight.copy_((weight / step).round() * step)
            if self._activations:
                seen = self._seen[conv]
                self._hooks.append(conv.register_forward_pre_hook(functools.partial(_round_input, seen.input)))
                self._hooks.append(conv.register_forward_hook(functools.partial(_round_output, seen.output)))

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()
        for weight, kept in self._kept:
            weight.copy_(kept)


def _round_input(seen: ChannelRange, module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (_round(inputs[0], seen),)


def _round_output(seen: ChannelRange, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return _round(output, seen)


def _round(x: Tensor, seen: ChannelRange) -> Tensor:
    scale, zero = (torch.from_numpy(values)[:, None].float() for values in quantization(seen, with_zero=True))
    return ((x / scale + zero).round().clamp(0, 255) - zero) * scale


def table(report: dict[str, Any]) -> str:
    """The report in Markdown."""
    lines = [
        "# The error of int8",
        "",
        "Signal-to-noise ratios in decibels, with synthetic weights of the full size. Random weights show how large rounding "
        "errors are, but not how they sound. When a real checkpoint is converted, its graphs are measured; its manifest has "
        f"the results. Made by `python -m bench.fidelity` on {report['processor']}.",
        "",
        "## Graphs against their PyTorch modules, for a prompt that was not used for calibration",
        "",
        "| part | int8 | wanted | fp32 |",
        "|---|---|---|---|",
    ]
    parts = {(part["role"], part["precision"]): part for part in report["parts"]}
    for role in dict.fromkeys(role for role, _ in parts):
        int8, fp32 = parts[role, "int8"], parts[role, "fp32"]
        wanted = "" if int8["wanted"] is None else f"{int8['wanted']:g}"
        lines.append(f"| {role} | {int8['snr']:.1f} | {wanted} | {fp32['snr']:.1f} |")
    lines += [
        "",
        "The value of the decoder's last graph is that of the whole decoder.",
        "",
        "## Clips, int8 against fp32 with the same noise",
        "",
        "| prompt | latents | samples | samples without their mean | log-mel distance |",
        "|---|---|---|---|---|",
    ]
    for clip in report["clips"]:
        cells = [clip["prompt"], *(f"{clip[key]:.1f}" for key in ("latents", "samples", "samples_without_mean"))]
        lines.append(f"| {' | '.join(cells)} | {clip['log_mel']:.2f} dB |")
    prompts = report["prompts"]
    lines += [
        "",
        f"T5 on {prompts['count']} prompts: cosine of the embeddings at least {prompts['least']:.5f}, median "
        f"{prompts['median']:.5f}; {'all values finite' if prompts['finite'] else 'SOME VALUES ARE NOT FINITE'}.",
        "",
        "## DiT, by kind of matmul",
        "",
        "| in 8 bits | velocity, worst of three noise levels |",
        "|---|---|",
        *(f"| {row['what']} | {row['snr']:.1f} |" for row in report["dit"]),
        "",
        "`gate` and `down` are the two Linears of the feed-forward; `context` is measured on keys and values.",
        "",
        "## T5, by kind of layer",
        "",
        "| in 8 bits | embeddings, worst of six prompts |",
        "|---|---|",
        *(f"| {row['what']} | {row['snr']:.1f} |" for row in report["text_encoder"]),
        "",
        "## Decoder, by layer",
        "",
        "| in 8 bits | audio | without its mean |",
        "|---|---|---|",
        *(f"| {row['what']} | {row['snr']:.1f} | {row['snr_without_mean']:.1f} |" for row in report["decoder"]),
        "",
        "Rounded in PyTorch. The graphs are more accurate in two places: the upsampling of the first block is quantized in "
        "blocks of 128 inputs, and biases correct the change of the mean by rounded weights. The first and the last "
        "convolution are in single precision.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
