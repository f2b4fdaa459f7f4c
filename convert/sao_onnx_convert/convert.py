"""From a checkpoint to a bundle: the order of the steps."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sao_onnx.bundle.bundle import Bundle, open_bundle
from sao_onnx.bundle.manifest import PRECISIONS, FileRole, Graph, Lora
from sao_onnx.bundle.prompts import PROMPTS
from sao_onnx.errors import SaoOnnxWarning
from sao_onnx_convert.bundle.description import describe_files, describe_model
from sao_onnx_convert.bundle.graphs import make_graphs, step_count
from sao_onnx_convert.bundle.origin import describe_origin, reading_notes
from sao_onnx_convert.bundle.space import bundle_bytes, require_space
from sao_onnx_convert.bundle.staging import remove_leftovers, require_free, staged
from sao_onnx_convert.bundle.writer import copy_prompts, license_name, write_manifest
from sao_onnx_convert.errors import ConversionError, UnsupportedModelError
from sao_onnx_convert.family.stable_audio_open.networks.autoencoder import DecoderSegment, decoder_cuts, split_decoder
from sao_onnx_convert.family.stable_audio_open.networks.model import load_model, outline
from sao_onnx_convert.family.stable_audio_open.pipeline import TorchPipeline
from sao_onnx_convert.family.stable_audio_open.text_encoder import load_t5
from sao_onnx_convert.lora.adapter import read_adapter
from sao_onnx_convert.lora.low_rank import Adapter
from sao_onnx_convert.lora.merge import merge, require_fit
from sao_onnx_convert.source.cache import cache_folder
from sao_onnx_convert.source.file_names import TOKENIZER
from sao_onnx_convert.source.files import CheckpointFiles
from sao_onnx_convert.source.selection import Selection, select
from sao_onnx_convert.source.source import Source
from sao_onnx_convert.source.weights import Reading


@dataclass(frozen=True)
class Progress:
    """Where a conversion is: at the start of a step, or within one that is a download.

    Attributes:
        step: What is done.
        index: Number of the step, from 0.
        total: Number of steps.
        done: Bytes that have arrived.
        size: Bytes of the file; 0 where the step is not a download.
    """

    step: str
    index: int
    total: int
    done: int = 0
    size: int = 0


def convert(  # noqa: PLR0913  The public function: all but three are keywords.
    checkpoint: str | Path,
    t5: str | Path | None,
    output: str | Path,
    *,
    precisions: Sequence[str] = ("fp32",),
    config_name: str | None = None,
    weights_name: str | None = None,
    base: str | Path | None = None,
    ema: bool = True,
    loras: Sequence[str | Path | tuple[str | Path, float]] = (),
    force: bool = False,
    progress: Callable[[Progress], None] = lambda progress: None,
    note: Callable[[str], None] = lambda text: None,
) -> Bundle:
    """Convert a checkpoint to a bundle.

    Whatever cannot be converted is refused early: both configurations and the free disk space are checked before any weights
    are downloaded.

    Args:
        checkpoint: Folder with a configuration and weights (`model_config.json` and `model.safetensors`, or others if they are
            the only ones), the weights in it, or a repository on the Hugging Face hub: `owner/name`, `owner/name@revision` or
            its address. A folder of that name comes first. Weights are safetensors, or what `torch.save` writes: the model
            alone, or a snapshot of its training.
        t5: Folder or repository of a T5 encoder with `config.json`, `model.safetensors` (or its shards) and `tokenizer.json`
            (or `spiece.model`), in one folder or in `text_encoder` and `tokenizer`; None for the one that the configuration
            names.
        output: The bundle to write. It appears when it is complete, and not at all when the conversion fails.
        precisions: Precisions to write, of `sao_onnx.bundle.manifest.PRECISIONS`.
        config_name: Name of the configuration in `checkpoint`, or its path on this machine; None to find it.
        weights_name: Name of the weights in `checkpoint`; None to find them.
        base: Folder or repository of the model that it was made from, or a file in it: for the configuration and the parts
            of the model that `checkpoint` does not have.
        ema: Take averaged weights (EMA) where a snapshot has some, as the reference does.
        loras: LoRAs to merge into the weights, in this order: files of stable-audio-tools or LoRAW, or folders of PEFT, each
            alone or with its strength (default 1), for example `["rain.safetensors", ("drums.safetensors", 0.7)]`.
        force: Replace an existing bundle.
        progress: Called before every step, and about twice a second during a download.
        note: Called with lines that a person should see, such as the fields of the configuration that have no effect.

    Returns:
        The written bundle.

    Raises:
        ConversionError: One of its subclasses: the model is not supported, a file is missing or damaged, a graph does not
            compute what its torch module computes, a download fails, the disk is too full, or the target exists or cannot be
            written.

    Warns:
        SaoOnnxWarning: The T5 may be another one than the model was trained with.
    """
    if unknown := [p for p in precisions if p not in PRECISIONS] or not precisions:
        raise UnsupportedModelError(f"precision: found {unknown or 'none'}, supported: {', '.join(PRECISIONS)}")
    try:
        target = Path(output).expanduser()
    except RuntimeError as error:
        raise ConversionError(f"{output} cannot be written: {error}") from error
    require_free(target, force)
    adapters = [read_adapter(*(lora if isinstance(lora, tuple) else (lora, 1.0)), note) for lora in loras]
    selection = select(checkpoint, t5, config_name, weights_name, base, note)
    if selection.doubt:
        warnings.warn(selection.doubt, SaoOnnxWarning, stacklevel=2)
    require_fit(outline(selection.config, selection.t5_config.d_model), adapters)
    downloads = selection.downloads
    # Gigabytes, which would count as taken.
    remove_leftovers(target)
    require_space(
        {
            "the bundle": (target, bundle_bytes(selection.config, selection.t5_config, precisions)),
            "downloads": (cache_folder() if downloads else target, sum(downloads.values())),
        }
    )
    strides = selection.config.model.pretransform.config.decoder.config.strides
    # The others: reading the weights, perhaps merging, and writing the manifest.
    total = len(downloads) + step_count(len(decoder_cuts(strides)) + 1, precisions) + 2 + bool(adapters)
    steps = _Steps(progress, total)
    _download(downloads, steps)
    steps.next("reading the weights")
    pipeline, borrowed = _load(selection, ema, note)
    if adapters:
        steps.next("merging LoRAs")
        merge(pipeline.model, adapters)
    segments = split_decoder(pipeline.model.autoencoder.decoder, strides)
    with staged(target, force) as folder:
        graphs = make_graphs(folder, precisions, pipeline, segments, steps.next)
        steps.next("writing the manifest")
        _complete(folder, selection, pipeline, segments, graphs, borrowed, adapters, note)
        open_bundle(folder)
    return open_bundle(target)


def _download(downloads: dict[tuple[Source, str], int], steps: _Steps) -> None:
    for (source, name), size in downloads.items():
        steps.next(f"downloading {name} of {source.title}", size)
        source.fetch([name], steps.within)


def _load(selection: Selection, ema: bool, note: Callable[[str], None]) -> tuple[TorchPipeline, tuple[str, ...]]:
    """The model in PyTorch, and the parts of it that came from the base."""
    base = selection.base
    t5_folder = selection.t5_source.fetch(selection.t5_files.all)
    readings: list[Reading] = []
    model = load_model(
        selection.config,
        selection.t5_config.d_model,
        _fetched(selection.source, selection.files),
        base=None if base is None else _fetched(base.source, base.files),
        average=ema,
        told=readings.append,
    )
    for line in reading_notes(readings[0], base, ema):
        note(line)
    return TorchPipeline(selection.config, model, load_t5(t5_folder, selection.t5_files)), readings[0].borrowed


def _fetched(source: Source, files: CheckpointFiles) -> Path:
    return source.fetch(files.weights.all) / files.weights.path


def _complete(
    folder: Path,
    selection: Selection,
    pipeline: TorchPipeline,
    segments: list[DecoderSegment],
    graphs: tuple[Graph, ...],
    borrowed: tuple[str, ...],
    adapters: Sequence[Adapter],
    note: Callable[[str], None],
) -> None:
    """Write all that a bundle holds besides its graphs: the tokenizer, prompts, the licences, and the manifest last."""
    roles: dict[str, FileRole] = {TOKENIZER: "tokenizer"}
    if copy_prompts(selection.source, folder, note):
        roles[PROMPTS] = "prompts"
    pipeline.t5.tokenizer.save(str(folder / TOKENIZER))
    origins = [(selection.source, selection.files)]
    if selection.base is not None and borrowed:
        origins.append((selection.base.source, selection.base.files))
    for source, chosen in origins:
        for license in chosen.licenses:
            name = license_name(license, roles)
            shutil.copyfile(source.fetch([license]) / license, folder / name)
            roles[name] = "license"
    for graph in graphs:
        roles |= {graph.path: "graph", **dict.fromkeys(graph.weights, "weights")}
    model = describe_origin(selection, borrowed)
    files = describe_files(folder, roles)
    loras = tuple(Lora(adapter.name, adapter.strength, adapter.sha256) for adapter in adapters)
    write_manifest(folder, describe_model(model, selection.config, pipeline.t5.pad_id, segments, graphs, files, loras))


class _Steps:
    """Counts the steps of a conversion for its progress.

    Args:
        report: Gets the progress.
        total: Number of steps.
    """

    def __init__(self, report: Callable[[Progress], None], total: int) -> None:
        self._report = report
        self._total = total
        self._index = 0
        self._step = ""

    def next(self, step: str, size: int = 0) -> None:
        """Begin a step; `size` is that of the file, where it is a download."""
        self._step = step
        self._report(Progress(step, self._index, self._total, 0, size))
        self._index += 1

    def within(self, name: str, done: int, size: int) -> None:
        """Report the download that is the current step."""
        self._report(Progress(self._step, self._index - 1, self._total, done, size))
