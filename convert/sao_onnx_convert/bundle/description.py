"""What the manifest of a bundle says about its graphs, its files and its model."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx

from sao_onnx.bundle.checked import digest
from sao_onnx.bundle.manifest import (
    FORMAT,
    Audio,
    Conditioners,
    DType,
    File,
    FileRole,
    Graph,
    Latents,
    Lora,
    Manifest,
    Model,
    Number,
    Precision,
    Prompt,
    Role,
    SegmentTiling,
    Tensor,
)
from sao_onnx_convert.export.checks import Closeness
from sao_onnx_convert.family.stable_audio_open.networks.autoencoder import DecoderSegment
from sao_onnx_convert.family.stable_audio_open.parts import encoder_margin
from sao_onnx_convert.family.stable_audio_open.sampling import DEFAULTS
from sao_onnx_convert.source.config_fields import ModelConfig
from sao_onnx_convert.source.file_names import TOKENIZER

TILES = (16, 2)
"""Latents of a tile in the decoder's last two segments. With these the activations of the released model fit the cache of a
core, and tiles still overlap little."""

TOOLS = ("torch", "transformers", "optimum", "optimum-onnx", "onnx", "onnxsim", "onnxruntime", "sao-onnx")
"""Packages whose versions the manifest records."""

_DTYPES: dict[int, DType] = {onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.INT64: "int64"}


def describe_graph(
    folder: Path,
    path: Path,
    role: Role,
    precision: Precision,
    closeness: Closeness,
    *,
    tolerance: float | None = None,
    min_snr: float | None = None,
) -> Graph:
    """The manifest's entry for a graph.

    Args:
        folder: Of the bundle.
        path: The graph, in that folder.
        role: What it is for.
        precision: Of its numbers.
        closeness: How close it is to its torch module.
        tolerance: What its largest error was allowed to be; None if it was not bounded.
        min_snr: What its signal-to-noise ratio should be at least, in decibels; None if it was not bounded.
    """
    model = onnx.load(path, load_external_data=False)
    weights = {
        entry.value
        for tensor in model.graph.initializer
        for entry in tensor.external_data
        if tensor.data_location == onnx.TensorProto.EXTERNAL and entry.key == "location"
    }
    return Graph(
        role=role,
        precision=precision,
        path=path.relative_to(folder).as_posix(),
        weights=tuple(sorted((path.parent / name).relative_to(folder).as_posix() for name in weights)),
        inputs=tuple(map(_tensor, model.graph.input)),
        outputs=tuple(map(_tensor, model.graph.output)),
        max_error=closeness.max_error,
        snr=closeness.snr,
        tolerance=tolerance,
        min_snr=min_snr,
    )


def _tensor(value: onnx.ValueInfoProto) -> Tensor:
    tensor = value.type.tensor_type
    shape = tuple(axis.dim_param or axis.dim_value for axis in tensor.shape.dim)
    return Tensor(value.name, _DTYPES[tensor.elem_type], shape)


def describe_files(folder: Path, roles: Mapping[str, FileRole]) -> tuple[File, ...]:
    """The manifest's entries for files, with sizes and digests.

    Args:
        folder: Of the bundle.
        roles: What each file is for, by its path in the folder.
    """
    return tuple(
        File(path, role, (folder / path).stat().st_size, digest(folder / path)) for path, role in sorted(roles.items())
    )


def describe_model(
    model: Model,
    config: ModelConfig,
    pad_id: int,
    segments: Sequence[DecoderSegment],
    graphs: tuple[Graph, ...],
    files: tuple[File, ...],
    loras: tuple[Lora, ...] = (),
) -> Manifest:
    """The manifest of a bundle.

    Args:
        model: Where the weights came from.
        config: The model's configuration.
        pad_id: Id of the token that fills short prompts.
        segments: The decoder's.
        graphs: Entries of all graphs.
        files: Entries of all files but the manifest itself.
        loras: Entries of the LoRAs in the weights.
    """
    autoencoder = config.model.pretransform.config
    return Manifest(
        format=FORMAT,
        model=model,
        audio=Audio(config.sample_rate, config.channels, config.window_frames),
        latents=Latents(
            autoencoder.latent_dim, autoencoder.downsampling_ratio, encoder_margin(autoencoder.encoder.config.strides)
        ),
        conditioning=_conditioning(config, pad_id),
        sampling=DEFAULTS[config.objective],
        decoder=_decoder(segments),
        tokenizer=TOKENIZER,
        files=files,
        graphs=graphs,
        tools={"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in TOOLS}},
        loras=loras,
    )


def _conditioning(config: ModelConfig, pad_id: int) -> Conditioners:
    diffusion = config.model.diffusion
    return Conditioners(
        width=config.model.conditioning.cond_dim,
        prompt=Prompt(config.prompt.id, config.prompt.config.max_length, pad_id),
        numbers=tuple(Number(number.id, number.config.min_val, number.config.max_val) for number in config.numbers),
        cross_attention=diffusion.cross_attention_cond_ids,
        global_condition=diffusion.global_cond_ids,
    )


def _decoder(segments: Sequence[DecoderSegment]) -> tuple[SegmentTiling, ...]:
    tiles = (0, *TILES[-(len(segments) - 1) :])
    return tuple(SegmentTiling(segment.rate, segment.margin, tile) for segment, tile in zip(segments, tiles, strict=True))
