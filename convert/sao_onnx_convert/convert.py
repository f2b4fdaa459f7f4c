"""From a checkpoint to a bundle: the order of the steps."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sao_onnx.bundle.bundle import Bundle, open_bundle
from sao_onnx.bundle.manifest import PRECISIONS, FileRole, Graph, Model
from sao_onnx.bundle.prompts import PROMPTS
from sao_onnx.errors import SaoOnnxWarning
from sao_onnx_convert.bundle.description import describe_files, describe_model
from sao_onnx_convert.bundle.graphs import make_graphs, step_count
from sao_onnx_convert.bundle.space import bundle_bytes, require_space
from sao_onnx_convert.bundle.staging import remove_leftovers, require_free, staged
from sao_onnx_convert.bundle.writer import copy_prompts, license_name, write_manifest
from sao_onnx_convert.errors import ConversionError, UnsupportedModelError
from sao_onnx_convert.family.stable_audio_open.networks.autoencoder import DecoderSegment, decoder_cuts, split_decoder
from sao_onnx_convert.family.stable_audio_open.networks.model import load_model
from sao_onnx_convert.family.stable_audio_open.pipeline import TorchPipeline
from sao_onnx_convert.family.stable_audio_open.text_encoder import load_t5
from sao_onnx_convert.source.cache import cache_folder
from sao_onnx_convert.source.file_names import TOKENIZER
from sao_onnx_convert.source.selection import Selection, select
from sao_onnx_convert.source.source import Source


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
    force: bool = False,
    progress: Callable[[Progress], None] = lambda progress: None,
    note: Callable[[str], None] = lambda text: None,
) -> Bundle:
    """Convert a checkpoint to a bundle.

    Whatever cannot be converted is refused early: both configurations and the free disk space are checked before any weights
    are downloaded.

    Args:
        checkpoint: Folder with `model_config.json` and `model.safetensors`, or a repository on the Hugging Face hub:
            `owner/name`, `owner/name@revision` or its address. A folder of that name comes first.
        t5: Folder or repository of a T5 encoder with `config.json`, `model.safetensors` (or its shards) and `tokenizer.json`
            (or `spiece.model`), in one folder or in `text_encoder` and `tokenizer`; None for the one that the configuration
            names.
        output: The bundle to write. It appears when it is complete, and not at all when the conversion fails.
        precisions: Precisions to write, of `sao_onnx.bundle.manifest.PRECISIONS`.
        config_name: Name of the configuration in `checkpoint`; None for `model_config.json`.
        weights_name: Name of the weights in `checkpoint`; None for `model.safetensors`.
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
    selection = select(checkpoint, t5, config_name, weights_name, note)
    if selection.doubt:
        warnings.warn(selection.doubt, SaoOnnxWarning, stacklevel=2)
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
    # The others: reading the weights, and writing the manifest.
    total = len(downloads) + step_count(len(decoder_cuts(strides)) + 1, precisions) + 2
    steps = _Steps(progress, total)
    _download(downloads, steps)
    steps.next("reading the weights")
    pipeline = _load(selection)
    segments = split_decoder(pipeline.model.autoencoder.decoder, strides)
    with staged(target, force) as folder:
        graphs = make_graphs(folder, precisions, pipeline, segments, steps.next)
        steps.next("writing the manifest")
        _complete(folder, selection, pipeline, segments, graphs, note)
        open_bundle(folder)
    return open_bundle(target)


def _download(downloads: dict[tuple[Source, str], int], steps: _Steps) -> None:
    for (source, name), size in downloads.items():
        steps.next(f"downloading {name} of {source.title}", size)
        source.fetch([name], steps.within)


def _load(selection: Selection) -> TorchPipeline:
    """The model in PyTorch."""
    folder = selection.source.fetch(selection.files.weights.all)
    t5_folder = selection.t5_source.fetch(selection.t5_files.all)
    model = load_model(selection.config, selection.t5_config.d_model, folder / selection.files.weights.path)
    return TorchPipeline(selection.config, model, load_t5(t5_folder, selection.t5_files))


def _complete(
    folder: Path,
    selection: Selection,
    pipeline: TorchPipeline,
    segments: list[DecoderSegment],
    graphs: tuple[Graph, ...],
    note: Callable[[str], None],
) -> None:
    """Write all that a bundle holds besides its graphs: the tokenizer, prompts, the licences, and the manifest last."""
    roles: dict[str, FileRole] = {TOKENIZER: "tokenizer"}
    if copy_prompts(selection.source, folder, note):
        roles[PROMPTS] = "prompts"
    pipeline.t5.tokenizer.save(str(folder / TOKENIZER))
    for license in selection.files.licenses:
        name = license_name(license, roles)
        shutil.copyfile(selection.source.fetch([license]) / license, folder / name)
        roles[name] = "license"
    for graph in graphs:
        roles |= {graph.path: "graph", **dict.fromkeys(graph.weights, "weights")}
    source = selection.source
    model = Model(source.name, source.origin, source.revision)
    files = describe_files(folder, roles)
    write_manifest(folder, describe_model(model, selection.config, pipeline.t5.pad_id, segments, graphs, files))


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
