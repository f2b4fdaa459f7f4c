"""Makes the models of the comparison: one synthetic checkpoint, in the formats that the contenders read.

    python -m bench.prepare [--folder scratch/bench] [--model models/miniature]

The folder then has `checkpoint`, `bundle` (sao-onnx's, in both precisions), `plain` (graphs as torch's exporter writes them,
for ONNX Runtime and OpenVINO), `programs` (exported programs of fixed shapes, for LiteRT) and `inputs.npz`. What is there
already is not made again.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from bench.common import FULL_SIZE, PROMPT, SEED, parser
from sao_onnx_convert import convert
from sao_onnx_convert.export.modules import export_module, export_text_encoder
from sao_onnx_convert.family.stable_audio_open.networks.autoencoder import without_parametrization
from sao_onnx_convert.family.stable_audio_open.pipeline import TorchPipeline
from sao_onnx_convert.family.stable_audio_open.synthetic import write_checkpoint, write_t5
from sao_onnx_convert.family.stable_audio_open.text_encoder import TextEncoder

MOST_STEPS = 16


def prepare(folder: Path, model: Path = FULL_SIZE) -> None:
    """Make what is missing in a folder.

    Args:
        folder: Folder of the models.
        model: Folder with `model_config.json` and `t5_config.json`.
    """
    checkpoint = folder / "checkpoint"
    if not (checkpoint / "t5" / "tokenizer.json").exists():
        t5_config = json.loads((model / "t5_config.json").read_text(encoding="utf-8"))
        model_config = json.loads((model / "model_config.json").read_text(encoding="utf-8"))
        write_checkpoint(checkpoint, model_config, t5_config["d_model"])
        write_t5(checkpoint / "t5", t5_config)
    if not (folder / "bundle").exists():
        convert(checkpoint, checkpoint / "t5", folder / "bundle", precisions=("int8", "fp32"))
    if not (folder / "inputs.npz").exists():
        pipeline = TorchPipeline.load(checkpoint, checkpoint / "t5")
        _export(pipeline, folder)
        _write_inputs(pipeline, folder / "inputs.npz")


def _export(pipeline: TorchPipeline, folder: Path) -> None:
    """Export the DiT and the whole decoder with torch's exporter, and T5 with optimum."""
    plain, programs = folder / "plain", folder / "programs"
    for target in (plain, programs):
        target.mkdir(exist_ok=True)
    prompt = pipeline.model.prompt_projection(pipeline.config.prompt.id)
    export_text_encoder(TextEncoder(pipeline.t5.encoder, prompt).eval(), plain / "text_encoder.onnx")
    decoder = without_parametrization(pipeline.model.autoencoder.decoder)
    modules: dict[str, tuple[nn.Module, dict[str, Tensor], str]] = {
        "dit": (pipeline.model.dit, _dit_inputs(pipeline), "velocity"),
        "decoder": (decoder, {"latents": torch.randn(1, _channels(pipeline), pipeline.config.window)}, "audio"),
    }
    for name, (module, inputs, output) in modules.items():
        export_module(module, plain / f"{name}.onnx", {key: (tensor, {}) for key, tensor in inputs.items()}, (output,))
        torch.export.save(torch.export.export(module, tuple(inputs.values())), programs / f"{name}.pt2")


def _dit_inputs(pipeline: TorchPipeline) -> dict[str, Tensor]:
    cross, condition = pipeline.condition(PROMPT, _numbers(pipeline))
    latents = torch.randn(1, _channels(pipeline), pipeline.config.window)
    return {"latents": latents, "times": torch.ones(1), "cross_attention": cross, "global_condition": condition}


def _write_inputs(pipeline: TorchPipeline, path: Path) -> None:
    inputs = _dit_inputs(pipeline)
    length = pipeline.config.prompt.config.max_length
    ids = pipeline.t5.tokenizer.encode(PROMPT).ids[:length]
    padded = np.full((1, length), pipeline.t5.pad_id, np.int64)
    padded[0, : len(ids)] = ids
    mask = (np.arange(length)[None] < len(ids)).astype(np.int64)
    arrays = {name: inputs[name].numpy() for name in ("cross_attention", "global_condition")}
    generator = torch.Generator().manual_seed(SEED)
    noise = [torch.randn(inputs["latents"].shape, generator=generator).numpy() for _ in range(1 + MOST_STEPS)]
    np.savez(path, input_ids=padded, attention_mask=mask, noise=noise, **arrays)  # type: ignore[arg-type]


def _numbers(pipeline: TorchPipeline) -> dict[str, float]:
    return {"seconds_total": pipeline.config.window_frames / pipeline.config.sample_rate}


def _channels(pipeline: TorchPipeline) -> int:
    return pipeline.config.model.pretransform.config.latent_dim


def main() -> None:
    """Make the models."""
    arguments = parser(__doc__).parse_args()
    prepare(arguments.folder, arguments.model)


if __name__ == "__main__":
    main()
