"""The files of a conversion: an audio model and its text encoder, chosen and checked before any weights are downloaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sao_onnx_convert.errors import CheckpointNotFoundError
from sao_onnx_convert.source.config import load_config
from sao_onnx_convert.source.config_fields import ModelConfig
from sao_onnx_convert.source.file_names import CONFIG
from sao_onnx_convert.source.files import CheckpointFiles, choose_checkpoint, choose_config
from sao_onnx_convert.source.locate import locate
from sao_onnx_convert.source.source import Folder, Source
from sao_onnx_convert.source.t5_config import T5Config, check_text_encoder, read_t5_config
from sao_onnx_convert.source.t5_files import LANDMARKS, T5Files, choose_t5, t5_folder
from sao_onnx_convert.source.t5_names import repository


@dataclass(frozen=True)
class Selection:
    """An audio model and its text encoder.

    Attributes:
        source: Where the model is.
        files: Its files.
        config: Its configuration.
        t5_source: Where the T5 is.
        t5_files: Its files.
        t5_config: Its configuration.
        doubt: Why the T5 may be another one than the model was trained with; None if nothing says so.
    """

    source: Source
    files: CheckpointFiles
    config: ModelConfig
    t5_source: Source
    t5_files: T5Files
    t5_config: T5Config
    doubt: str | None

    @property
    def downloads(self) -> dict[tuple[Source, str], int]:
        """The weights that are not on this machine: their source and name, and the bytes that are missing."""
        model = self.source.absent(self.files.weights.files)
        t5 = self.t5_source.absent(self.t5_files.weights.files)
        return {(self.source, name): size for name, size in model.items()} | {
            (self.t5_source, name): size for name, size in t5.items()
        }


def select(
    checkpoint: str | Path,
    t5: str | Path | None,
    config_name: str | None,
    weights_name: str | None,
    note: Callable[[str], None],
) -> Selection:
    """Find the files of a model and of its text encoder, and check both configurations.

    Args:
        checkpoint: Folder or repository of the model.
        t5: Folder or repository of the T5; None for the one that the configuration names.
        config_name: Name of the configuration; None for `model_config.json`.
        weights_name: Name of the weights; None for `model.safetensors`.
        note: Gets lines that a person should see.

    Raises:
        ConversionError: Something is missing, damaged or not supported.
    """
    source = locate(checkpoint, (config_name or CONFIG,))
    # The configuration comes first: a model that is not supported must be called that, even if other files are missing as well.
    config_path = choose_config(source, config_name)
    config = None if config_path is None else load_config(source.fetch([config_path]) / config_path, note)
    files = choose_checkpoint(source, config_name, weights_name)
    config = config or load_config(source.fetch([files.config]) / files.config, note)
    t5_source = _t5_source(config, t5)
    t5_files = choose_t5(t5_source)
    t5_config = read_t5_config(t5_source.fetch(t5_files.small) / t5_files.config)
    doubt = check_text_encoder(config, t5_config, t5_source.origin)
    return Selection(source, files, config, t5_source, t5_files, t5_config, doubt)


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
