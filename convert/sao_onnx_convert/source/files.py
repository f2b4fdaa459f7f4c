"""Chooses the weights of an audio model from the files in its folder or repository."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection
from dataclasses import dataclass

from sao_onnx_convert.errors import CheckpointError, ConversionError
from sao_onnx_convert.source.file_names import CONFIG, INDEX, LICENSES, PICKLED_WEIGHTS, PICKLES, SHARD, WEIGHTS
from sao_onnx_convert.source.source import Source


@dataclass(frozen=True)
class WeightFiles:
    """A file of weights, or the shards in its place.

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

    weights: WeightFiles
    licenses: tuple[str, ...]


def weight_names(source: Source, given: str | None = None) -> list[str]:
    """Files in a source's folder that may be the weights: one, if it is known which.

    It is the one that the user named, `model.safetensors` or its shards, or `model.ckpt`, as in the reference; otherwise
    whatever file of weights there is.

    Args:
        source: Where they are.
        given: Name of the weights in the source's folder; None if the user did not name them.
    """
    named = (source.file or "").removeprefix(source.base)
    if given is None and named.removesuffix(INDEX).endswith((".safetensors", *PICKLES)):
        given = named
    if given is not None:
        return [given.removesuffix(INDEX)]
    beside = set(source.beside)
    if WEIGHTS in beside or WEIGHTS + INDEX in beside or not source.complete:
        return [WEIGHTS]
    if PICKLED_WEIGHTS in beside:
        return [PICKLED_WEIGHTS]
    found = {name for name in beside if name.endswith(".safetensors") and not SHARD.search(name)}
    found |= {name.removesuffix(INDEX) for name in beside if name.endswith(f".safetensors{INDEX}")}
    found = {name for name in found if not name.startswith("adapter_model.")}
    stems = {name.removesuffix(".safetensors") for name in found}
    # The same model in both forms is one.
    return sorted(found | {name for name in beside if name.endswith(PICKLES) and name.rpartition(".")[0] not in stems})


def choose_checkpoint(source: Source, names: list[str]) -> CheckpointFiles:
    """The weights of an audio model, and the licences beside them.

    Args:
        source: Where they are.
        names: Files that may be the weights, from `weight_names`.

    Raises:
        ConversionError: There are no weights, or several.
    """
    if len(names) > 1:
        raise several(source, names)
    name = names[0] if names else WEIGHTS
    if not name.endswith((".safetensors", *PICKLES)):
        raise CheckpointError(f"{name} is no file of weights; expected .safetensors, or {', '.join(PICKLES)} of torch.save")
    if (found := choose_weights(source, source.base + name)) is None:
        raise _lacking(source, [source.base + name])
    return CheckpointFiles(found, _licenses(source))


def several(source: Source, names: list[str]) -> CheckpointError:
    """The error to raise where any of some files may be the weights."""
    shown = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    return CheckpointError(
        f"{source.title} holds several files of weights: {shown}; say which with --weights NAME (weights_name=...)"
    )


def no_config(source: Source, given: str | None, names: list[str]) -> ConversionError:
    """The error to raise where there is no configuration.

    Args:
        source: Where it should be.
        given: Its name, if the user named it.
        names: Files that may be the weights, from `weight_names`.
    """
    missing = [source.base + (given or CONFIG)]
    if not names or choose_weights(source, source.base + names[0]) is None:
        missing.append(source.base + (names[0] if names else WEIGHTS))
    return _lacking(source, missing)


def _lacking(source: Source, missing: list[str]) -> ConversionError:
    weights = any(name.endswith((".safetensors", *PICKLES)) for name in source.names)
    options = ["--config FILE (config_name=...)"] if missing[0].endswith(".json") else []
    if weights and not missing[-1].endswith(".json"):
        options.append("--weights NAME (weights_name=...)")
    remedy = f"name another file with {' and '.join(options)}" if options and source.names else "is this the right model?"
    if weights and missing[-1].endswith(".json"):
        remedy += ", or give the model that it was made from with --base (base=...)"
    return source.lacking(missing, other_model(source.names) or remedy)


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
        return "it is an adapter (a LoRA), not a whole model; convert the model that it was made for, and give it with --lora"
    if not any(name.endswith((".safetensors", *PICKLES)) for name in names):
        other = next((name for name in sorted(names) if name.endswith((".gguf", ".onnx", ".tflite"))), None)
        if other is not None:
            return f"it holds {other}, another format; expected the original weights, as safetensors or .ckpt"
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
