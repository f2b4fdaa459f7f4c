"""From a checkpoint to a bundle: the order of the steps."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sao_onnx.bundle.bundle import Bundle, open_bundle
from sao_onnx.bundle.manifest import (
    FORMAT,
    PRECISIONS,
    Audio,
    Conditioning,
    DecoderStage,
    FileRole,
    Graph,
    Latents,
    Manifest,
    Model,
    Number,
    Prompt,
    Sampling,
)
from sao_onnx.errors import SaoOnnxWarning
from sao_onnx_convert.bundle.graphs import Announce, discard, eight_bit, single_precision
from sao_onnx_convert.bundle.space import bundle_bytes, require_space
from sao_onnx_convert.bundle.writer import describe_files, require_free, staged, write_manifest
from sao_onnx_convert.errors import CheckpointNotFoundError, UnsupportedModelError
from sao_onnx_convert.family.stable_audio_open import parts
from sao_onnx_convert.family.stable_audio_open.networks.autoencoder import Stage, decoder_cuts, split_decoder
from sao_onnx_convert.family.stable_audio_open.networks.model import load_model
from sao_onnx_convert.family.stable_audio_open.pipeline import TorchPipeline
from sao_onnx_convert.family.stable_audio_open.text_encoder import Text, load_text
from sao_onnx_convert.source.cache import cache_folder
from sao_onnx_convert.source.config import load_config
from sao_onnx_convert.source.config_fields import ModelConfig
from sao_onnx_convert.source.file_names import CONFIG, TOKENIZER
from sao_onnx_convert.source.files import choose_checkpoint, choose_config
from sao_onnx_convert.source.locate import locate
from sao_onnx_convert.source.source import Folder, Source
from sao_onnx_convert.source.t5_config import check_text_encoder, read_t5_config
from sao_onnx_convert.source.t5_files import LANDMARKS, choose_t5, t5_folder
from sao_onnx_convert.source.t5_names import repository

STEPS = 8
"""Sampling steps that the released model is meant for."""

TILES = (16, 2)
"""Latents in a tile of the decoder's last two stages: the activations of the released model then stay in a core's cache, and
the overlap is still small."""

TOOLS = ("torch", "transformers", "optimum", "optimum-onnx", "onnx", "onnxsim", "onnxruntime", "sao-onnx")


@dataclass(frozen=True)
class Progress:
    """Where a conversion is: before step `index` (from 0) of `total`, or in the middle of it when it is a download.

    Attributes:
        step: What is done.
        index: Number of the step.
        total: Number of steps.
        done: Bytes that have arrived.
        size: Bytes of the file; 0 where the step is not a download.
    """

    step: str
    index: int
    total: int
    done: int = 0
    size: int = 0


def convert(
    checkpoint: str | Path,
    t5: str | Path | None,
    output: str | Path,
    *,
    precisions: Sequence[str] = ("fp32",),
    config_name: str | None = None,
    weights_name: str | None = None,
    force: bool = False,
    progress: Callable[[Progress], None] = lambda progress: None,
    note: Callable[[str], None] = lambda text: None,
) -> Bundle:
    """Convert a checkpoint to a bundle.

    What can be refused is refused early: both configurations are read, and the room on the disk is looked at, before any
    weights are downloaded.

    Args:
        checkpoint: Folder with `model_config.json` and `model.safetensors`, or a repository on the Hugging Face hub:
            `owner/name`, `owner/name@revision` or its address. A folder of that name comes first.
        t5: Folder or repository of a T5 encoder with `config.json`, `model.safetensors` (or its shards) and `tokenizer.json`
            (or `spiece.model`), beside each other or in `text_encoder` and `tokenizer`; None for the one that the
            configuration names.
        output: The bundle to write. It appears when it is complete, and not at all when the conversion fails.
        precisions: Precisions to write, of `sao_onnx.bundle.manifest.PRECISIONS`.
        config_name: Name of the configuration in `checkpoint`, where it is another than `model_config.json`.
        weights_name: Name of the weights in `checkpoint`, where it is another than `model.safetensors`.
        force: Replace an existing bundle.
        progress: Called before every step, and about twice a second during a download.
        note: Called with lines that a person should see, such as the fields of the configuration that nobody reads.

    Returns:
        The written bundle.

    Raises:
        ConversionError: In one of its forms: the model is not supported, a file is missing or damaged, a graph does not
            compute what its torch module computes, a download fails, the disk is too full, or the target exists or cannot be
            written.

    Warns:
        SaoOnnxWarning: The T5 may be another one than the model was trained with.
    """
    if unknown := [p for p in precisions if p not in PRECISIONS] or not precisions:
        raise UnsupportedModelError(f"precision: found {unknown or 'none'}, supported: {', '.join(PRECISIONS)}")
    target = Path(output).expanduser()
    require_free(target, force)
    source = locate(checkpoint, (config_name or CONFIG,))
    # A model that is not supported is told so, whatever else may be missing beside its configuration.
    config_path = choose_config(source, config_name)
    config = None if config_path is None else load_config(source.fetch([config_path]) / config_path, note)
    files = choose_checkpoint(source, config_name, weights_name)
    config = config or load_config(source.fetch([files.config]) / files.config, note)
    text_source = _t5_source(config, t5)
    text_files = choose_t5(text_source)
    text_folder = text_source.fetch(text_files.small)
    t5_config = read_t5_config(text_folder / text_files.config)
    if doubt := check_text_encoder(config, t5_config, text_source.origin):
        warnings.warn(doubt, SaoOnnxWarning, stacklevel=2)
    downloads = {(source, name): size for name, size in source.absent(files.weights.files).items()}
    downloads |= {(text_source, name): size for name, size in text_source.absent(text_files.weights.files).items()}
    require_space(
        {
            "the bundle": (target, bundle_bytes(config, t5_config, precisions)),
            "downloads": (cache_folder() if downloads else target, sum(downloads.values())),
        }
    )
    strides = config.model.pretransform.config.decoder.config.strides
    # A decoder of n cuts is n + 1 graphs beside five others. All are exported and checked, all but one quantized and measured.
    graphs_in_all = 6 + len(decoder_cuts(strides))
    conversions = 2 + 2 * graphs_in_all + ("int8" in precisions) * (2 * graphs_in_all - 1)
    steps = _Steps(progress, len(downloads) + conversions)
    for (place, name), size in downloads.items():
        steps.next(f"downloading {name} of {place.title}", size)
        place.fetch([name], steps.within)
    folder = source.fetch([*files.weights.all, *files.licenses])
    text_folder = text_source.fetch(text_files.all)
    steps.next("reading the weights")
    model = load_model(config, t5_config.d_model, folder / files.weights.path)
    text = load_text(text_folder, text_files)
    stages = split_decoder(model.autoencoder.decoder, strides)
    with staged(target, force) as bundle:
        graphs = _graphs(bundle, precisions, TorchPipeline(config, model, text), stages, steps.next)
        steps.next("writing the manifest")
        roles: dict[str, FileRole] = {TOKENIZER: "tokenizer"}
        text.tokenizer.save(str(bundle / TOKENIZER))
        for license in files.licenses:
            name = Path(license).name
            shutil.copyfile(folder / license, bundle / name)
            roles[name] = "license"
        for graph in graphs:
            roles |= {graph.path: "graph", **dict.fromkeys(graph.weights, "weights")}
        write_manifest(
            bundle,
            Manifest(
                format=FORMAT,
                model=Model(source.name, source.origin, source.revision),
                audio=Audio(config.sample_rate, config.channels, config.window_frames),
                latents=_latents(config),
                conditioning=_conditioning(config, text),
                # The one supported objective. Meant for ping-pong without guidance; the configuration does not say so.
                sampling=Sampling("rf_denoiser", "pingpong", STEPS, cfg_scale=1.0),
                decoder=_decoder(stages),
                tokenizer=TOKENIZER,
                files=describe_files(bundle, roles),
                graphs=graphs,
                tools=_tools(),
            ),
        )
        open_bundle(bundle)
    return open_bundle(target)


def _t5_source(config: ModelConfig, given: str | Path | None) -> Source:
    """Where the T5 is: as the user said, else the repository of the one that the configuration names."""
    if given is not None:
        source = locate(given, LANDMARKS)
        return t5_folder(source.folder) if isinstance(source, Folder) else source
    name = config.prompt.config.t5_model_name
    if (found := repository(name)) is None:
        raise CheckpointNotFoundError(
            f"the configuration names its text encoder {name!r}, which is no repository; say with --t5 where it is"
        )
    return locate(found, LANDMARKS)


def _graphs(
    folder: Path, precisions: Sequence[str], pipeline: TorchPipeline, stages: list[Stage], announce: Announce
) -> tuple[Graph, ...]:
    """The graphs of every wanted precision. The 8-bit ones are made from the single-precision ones."""
    model, config = pipeline.model, pipeline.config
    every = [
        parts.text_encoder(pipeline.text, model, config),
        parts.number_conditioner(model, config),
        parts.context(model, config),
        parts.dit(model, config),
        *parts.decoder(stages, config),
        parts.encoder(model, config),
    ]
    exact = single_precision(folder, every, announce)
    graphs = list(exact)
    if "int8" in precisions:
        graphs += eight_bit(folder, every, exact, pipeline, stages, STEPS, announce)
    kept = [graph for graph in graphs if graph.precision in precisions]
    discard(folder, graphs, kept)
    return tuple(kept)


def _decoder(stages: list[Stage]) -> tuple[DecoderStage, ...]:
    tiles = (0, *TILES[-(len(stages) - 1) :])
    return tuple(DecoderStage(stage.rate, stage.context, tile) for stage, tile in zip(stages, tiles, strict=True))


def _latents(config: ModelConfig) -> Latents:
    autoencoder = config.model.pretransform.config
    return Latents(autoencoder.latent_dim, autoencoder.downsampling_ratio)


def _conditioning(config: ModelConfig, text: Text) -> Conditioning:
    diffusion = config.model.diffusion
    return Conditioning(
        width=config.model.conditioning.cond_dim,
        prompt=Prompt(config.prompt.id, config.prompt.config.max_length, text.pad_id),
        numbers=tuple(Number(number.id, number.config.min_val, number.config.max_val) for number in config.numbers),
        cross_attention=diffusion.cross_attention_cond_ids,
        global_condition=diffusion.global_cond_ids,
    )


def _tools() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in TOOLS}}


class _Steps:
    """Counts the steps of a conversion for its progress."""

    def __init__(self, report: Callable[[Progress], None], total: int) -> None:
        self._report = report
        self._total = total
        self._index = 0
        self._step = ""

    def next(self, step: str, size: int = 0) -> None:
        self._step = step
        self._report(Progress(step, self._index, self._total, 0, size))
        self._index += 1

    def within(self, name: str, done: int, size: int) -> None:
        """In the middle of the download that is the current step."""
        self._report(Progress(self._step, self._index - 1, self._total, done, size))
