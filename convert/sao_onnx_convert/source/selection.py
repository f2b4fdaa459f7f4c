"""The files of a conversion: an audio model and its text encoder, chosen and checked before any weights are downloaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sao_onnx_convert.errors import CheckpointNotFoundError
from sao_onnx_convert.source.config import load_config
from sao_onnx_convert.source.config_fields import ModelConfig
from sao_onnx_convert.source.config_names import choose_config, lent_config, local_config
from sao_onnx_convert.source.file_names import CONFIG, PICKLED_WEIGHTS, WEIGHTS
from sao_onnx_convert.source.files import CheckpointFiles, choose_checkpoint, no_config, several, weight_names
from sao_onnx_convert.source.locate import locate
from sao_onnx_convert.source.source import Folder, Source
from sao_onnx_convert.source.t5_config import T5Config, check_text_encoder, read_t5_config
from sao_onnx_convert.source.t5_files import LANDMARKS, T5Files, choose_t5, t5_folder
from sao_onnx_convert.source.t5_names import repository

Note = Callable[[str], None]


@dataclass(frozen=True)
class Base:
    """The model from which another was made, for the parts that are not in that one.

    Attributes:
        source: Where it is.
        files: Its files.
    """

    source: Source
    files: CheckpointFiles


@dataclass(frozen=True)
class Selection:
    """An audio model and its text encoder.

    Attributes:
        source: Where the model is.
        files: Its files.
        config: Its configuration.
        base: The model that it was made from, if that was given.
        t5_source: Where the T5 is.
        t5_files: Its files.
        t5_config: Its configuration.
        doubt: Why the T5 may be another one than the model was trained with; None if nothing says so.
    """

    source: Source
    files: CheckpointFiles
    config: ModelConfig
    base: Base | None
    t5_source: Source
    t5_files: T5Files
    t5_config: T5Config
    doubt: str | None

    @property
    def downloads(self) -> dict[tuple[Source, str], int]:
        """The weights that are not on this machine: their source and name, and the bytes that are missing."""
        wanted = [(self.source, self.files.weights.files), (self.t5_source, self.t5_files.weights.files)]
        if self.base is not None:
            wanted.insert(1, (self.base.source, self.base.files.weights.files))
        return {(source, name): size for source, names in wanted for name, size in source.absent(names).items()}


def select(
    checkpoint: str | Path,
    t5: str | Path | None,
    config_name: str | None,
    weights_name: str | None,
    base: str | Path | None,
    note: Note,
) -> Selection:
    """Find the files of a model and of its text encoder, and check both configurations.

    Args:
        checkpoint: Folder or repository of the model, or a file in it.
        t5: Folder or repository of the T5; None for the one that the configuration names.
        config_name: Name of the configuration in the model's folder, or its path on this machine; None to find it.
        weights_name: Name of the weights; None to find them.
        base: Folder or repository of the model that it was made from, or a file in it; None if it is whole.
        note: Gets lines that a person should see.

    Raises:
        ConversionError: Something is missing, damaged or not supported.
    """
    source = locate(checkpoint, _landmarks(config_name, weights_name))
    lender = None if base is None else locate(base, _landmarks(None, None))
    names = weight_names(source, weights_name)
    # The configuration comes first: a model that is not supported must be called that, even if other files are missing as well.
    config_path = _config(source, config_name, names, lender, note)
    if config_path is None:
        raise several(source, names) if len(names) > 1 else no_config(source, config_name, names)
    config = load_config(config_path, note)
    files = choose_checkpoint(source, names)
    if Path(files.weights.path).name != WEIGHTS:
        note(f"weights: {files.weights.path} of {source.title}")
    lent = None if lender is None else Base(lender, choose_checkpoint(lender, weight_names(lender)))
    t5_source = _t5_source(config, t5)
    t5_files = choose_t5(t5_source)
    t5_config = read_t5_config(t5_source.fetch(t5_files.small) / t5_files.config)
    doubt = check_text_encoder(config, t5_config, t5_source.origin)
    return Selection(source, files, config, lent, t5_source, t5_files, t5_config, doubt)


def _landmarks(config_name: str | None, weights_name: str | None) -> tuple[str, ...]:
    """Files of which one is in the cache, where a model was downloaded before."""
    usual = (CONFIG, f"base_{CONFIG}", WEIGHTS, PICKLED_WEIGHTS)
    return tuple(name for name in (config_name, weights_name, *usual) if name)


def _config(source: Source, given: str | None, weights: list[str], lender: Source | None, note: Note) -> Path | None:
    """The configuration's file, on this machine by now; None where there is none."""
    if (local := local_config(source, given)) is not None:
        return local
    place, name = source, choose_config(source, given, weights)
    if name is None and given is None and lender is not None:
        place, name = lender, lent_config(lender, weight_names(lender))
    if name is None:
        return None
    if place is not source:
        note(
            f"configuration: {name} of {place.title}, because {source.title} has none; if it is another model's, give --config"
        )
    elif given is None and Path(name).name != CONFIG:
        note(f"configuration: {name} of {place.title}")
    return place.fetch([name]) / name


def _t5_source(config: ModelConfig, given: str | Path | None) -> Source:
    """Where the T5 is: at the given place, or else in the repository of the one that the configuration names."""
    if given is not None:
        source = locate(given, LANDMARKS)
        return t5_folder(source.folder) if isinstance(source, Folder) else source
    name = config.prompt.config.t5_model_name
    if (found := repository(name)) is None:
        raise CheckpointNotFoundError(
            f"the configuration names the text encoder {name!r}, which is not a repository; say with --t5 where it is"
        )
    return locate(found, LANDMARKS)
