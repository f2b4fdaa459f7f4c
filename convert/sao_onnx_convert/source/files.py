"""Chooses the files of an audio model from those in its folder or repository."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection
from dataclasses import dataclass

from sao_onnx_convert.errors import CheckpointError
from sao_onnx_convert.source.file_kinds import pickled
from sao_onnx_convert.source.file_names import CONFIG, INDEX, LICENSES, PICKLES, SHARD, WEIGHTS
from sao_onnx_convert.source.source import Source


@dataclass(frozen=True)
class WeightFiles:
    """A safetensors file, or the shards in its place.

    Attributes:
        path: The file. If it is sharded, the name of the index without `.index.json`.
        files: The file, or the shards.
        index: The index of the shards, None for a single file.
    """

    path: str
    files: tuple[str, ...]
    index: str | None = None

    @property
    def all(self) -> tuple[str, ...]:
        """Every file of them."""
        return self.files if self.index is None else (self.index, *self.files)


@dataclass(frozen=True)
class CheckpointFiles:
    """Files of an audio model, by their paths in its source."""

    config: str
    weights: WeightFiles
    licenses: tuple[str, ...]


def choose_config(source: Source, config: str | None = None) -> str | None:
    """The path of an audio model's configuration in its source; None where there is none.

    Args:
        source: Where it is. If the user named a configuration in it, that one is taken.
        config: Its name in the source's folder, None for `model_config.json`.
    """
    named = (source.file or "").removeprefix(source.base)
    if config is None and named.endswith(".json") and not named.endswith(INDEX):
        config = named
    path = source.base + (config or CONFIG)
    return path if path in source.names else None


def choose_checkpoint(source: Source, config: str | None = None, weights: str | None = None) -> CheckpointFiles:
    """The files of an audio model.

    Args:
        source: Where they are. If the user named a file in it, that one is taken as the configuration or the weights.
        config: Name of the configuration in the source's folder, None for `model_config.json`.
        weights: Name of the weights in the source's folder, None for `model.safetensors`.

    Raises:
        ConversionError: A file is missing, or is a pickle.
    """
    if source.file is not None and source.file.endswith(PICKLES):
        raise CheckpointError(pickled(source.file))
    named = (source.file or "").removeprefix(source.base)
    if named.removesuffix(INDEX).endswith(".safetensors"):
        weights = weights or named
    weights = (weights or WEIGHTS).removesuffix(INDEX)
    if not weights.endswith(".safetensors"):
        raise CheckpointError(pickled(weights) if weights.endswith(PICKLES) else f"{weights} is not a .safetensors file")
    config_path, weights_path = choose_config(source, config), source.base + weights
    found = choose_weights(source, weights_path)
    if config_path is not None and found is not None:
        return CheckpointFiles(config_path, found, _licenses(source))
    missing, options = [], []
    if config_path is None:
        missing.append(source.base + (config or CONFIG))
        if any(name.endswith(".json") for name in source.names):
            options.append("--config-name (config_name=...)")
    if found is None:
        missing.append(weights_path)
        if pickle := lone_pickle(source, weights_path):
            raise source.lacking(missing, pickled(pickle))
        if any(name.endswith(".safetensors") for name in source.names):
            options.append("--weights-name (weights_name=...)")
    remedy = f"name another file with {' and '.join(options)}" if options else "is this the right model?"
    raise source.lacking(missing, other_model(source.names) or remedy)


def choose_weights(source: Source, path: str) -> WeightFiles | None:
    """The weights of a given path, or their shards; None where there are neither.

    Raises:
        ConversionError: There is an index, but some shard is missing.
    """
    index = path + INDEX
    if path in source.names:
        return WeightFiles(path, (path,))
    if index not in source.names:
        return None
    stem = path.removesuffix(".safetensors")
    sets: dict[str, dict[int, str]] = {}
    for name in source.names:
        if name.startswith(stem) and (match := SHARD.fullmatch(name.removeprefix(stem))):
            sets.setdefault(match[2], {})[int(match[1])] = name
    missing: list[str] = []
    for total, shards in sorted(sets.items()):
        width = len(next(iter(shards.values())).removeprefix(stem).split("-")[1])
        lost = [number for number in range(1, min(int(total), 10_000) + 1) if number not in shards]
        if not lost:
            return WeightFiles(path, tuple(shards[number] for number in sorted(shards)), index)
        missing = [f"{stem}-{number:0{width}}-of-{total}.safetensors" for number in lost[:4]]
    # The shards have other names; the index says which files they are.
    if others := [name for name in _beside(source, path) if name.endswith(".safetensors") and not missing]:
        return WeightFiles(path, tuple(others), index)
    raise source.lacking(missing or [path], f"{index} says that the weights are in several files, and all of them are needed")


def lone_pickle(source: Source, path: str) -> str | None:
    """A pickled checkpoint in the place of the weights; None if there is none, or if a safetensors file is there as well."""
    beside = _beside(source, path)
    pickles = [name for name in beside if name.endswith(PICKLES)]
    return pickles[0] if pickles and not any(name.endswith(".safetensors") for name in beside) else None


def other_model(names: Collection[str]) -> str | None:
    """What a folder or repository without `model_config.json` or `model.safetensors` is, by its files; None if it is unknown.

    Args:
        names: Paths of its files, with `/`.
    """
    if "model_index.json" in names:
        return "it is in the Diffusers layout; expected the original files, model_config.json and model.safetensors"
    if "adapter_config.json" in names or any(name.startswith("adapter_model.") for name in names):
        return "it is an adapter (a LoRA), not a whole model; convert the model that it was made for"
    if not any(name.endswith((".safetensors", *PICKLES)) for name in names):
        other = next((name for name in sorted(names) if name.endswith((".gguf", ".onnx", ".tflite"))), None)
        if other is not None:
            return f"it holds {other}, another format; expected the original weights as safetensors"
    return None


def _beside(source: Source, path: str) -> list[str]:
    folder = path.rpartition("/")[0]
    return [name for name in source.names if name.rpartition("/")[0] == folder]


def _licenses(source: Source) -> tuple[str, ...]:
    """Licence and notice files beside the model, or in the top folder if there are none."""
    for base in (source.base, ""):
        own = [name for name in source.names if name.startswith(base) and "/" not in name.removeprefix(base)]
        if found := [n for n in own if any(fnmatch.fnmatchcase(n.removeprefix(base), pattern) for pattern in LICENSES)]:
            return tuple(found)
    return ()
