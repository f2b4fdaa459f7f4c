"""Which files of a model are wanted, of all that its folder or repository holds."""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass

from sao_onnx_convert.checkpoint import CONFIG, WEIGHTS
from sao_onnx_convert.errors import CheckpointError
from sao_onnx_convert.layouts import other_model
from sao_onnx_convert.source.source import Source

LICENSES = ("LICENSE*", "LICENCE*", "NOTICE*", "COPYING*")
PICKLES = (".ckpt", ".bin", ".pt", ".pth")

T5_CONFIGS = ("config.json", "text_encoder/config.json")
TOKENIZERS = ("tokenizer.json", "spiece.model")
TOKENIZER_SETTINGS = ("tokenizer_config.json", "added_tokens.json", "special_tokens_map.json")
_T5_EXPECTED = (
    "expected config.json, model.safetensors (or its parts with model.safetensors.index.json) and tokenizer.json (or "
    "spiece.model), or these in text_encoder/ and tokenizer/"
)
_PART = re.compile(r"model-\d+-of-\d+\.safetensors")


@dataclass(frozen=True)
class CheckpointFiles:
    """Files of an audio model, by their paths in its source."""

    config: str
    weights: str
    licenses: tuple[str, ...]


@dataclass(frozen=True)
class TextFiles:
    """Files of a T5 encoder, by their paths in its source.

    Attributes:
        small: Configuration and tokenizer.
        weights: One file, or several beside a `model.safetensors.index.json`.
    """

    small: tuple[str, ...]
    weights: tuple[str, ...]


def choose_checkpoint(source: Source, config: str | None = None, weights: str | None = None) -> CheckpointFiles:
    """The files of an audio model.

    Args:
        source: Where they are. A file that the user named with it is taken as the one or the other.
        config: Name of the configuration in the source's folder, None for `model_config.json`.
        weights: Name of the weights in the source's folder, None for `model.safetensors`.

    Raises:
        ConversionError: A file is missing, or is a pickle.
    """
    if source.file is not None and source.file.endswith(PICKLES):
        raise CheckpointError(pickled(source.file))
    named = (source.file or "").removeprefix(source.base)
    if named.endswith(".safetensors"):
        weights = weights or named
    elif named.endswith(".json"):
        config = config or named
    if weights is not None and not weights.endswith(".safetensors"):
        raise CheckpointError(pickled(weights) if weights.endswith(PICKLES) else f"{weights} is no .safetensors file")
    wanted = CheckpointFiles(source.base + (config or CONFIG), source.base + (weights or WEIGHTS), _licenses(source))
    missing = [name for name in (wanted.config, wanted.weights) if name not in source.names]
    if not missing:
        return wanted
    if wanted.weights in missing:
        _refuse_pickles(source, wanted.weights)
    options = []
    if wanted.config in missing and any(name.endswith(".json") for name in source.names):
        options.append("--config-name (config_name=...)")
    if wanted.weights in missing and any(name.endswith(".safetensors") for name in source.names):
        options.append("--weights-name (weights_name=...)")
    remedy = f"name another file with {' and '.join(options)}" if options else "is this the right model?"
    raise source.lacking(missing, other_model(source.names) or remedy)


def choose_text(source: Source) -> TextFiles:
    """The files of a T5 encoder, at the top or in `text_encoder/` with the tokenizer in `tokenizer/`.

    Raises:
        ConversionError: A file is missing, or only a pickle is there.
    """
    base = source.base
    config = next((base + name for name in T5_CONFIGS if base + name in source.names), None)
    if config is None:
        raise source.lacking([base + T5_CONFIGS[0]], _T5_EXPECTED)
    folder = config.removesuffix(T5_CONFIGS[0])
    index = f"{folder}{WEIGHTS}.index.json"
    parts = [name for name in source.names if name.startswith(folder) and _PART.fullmatch(name.removeprefix(folder))]
    if folder + WEIGHTS in source.names:
        small, weights = [config], [folder + WEIGHTS]
    elif index in source.names and parts:
        small, weights = [config, index], parts
    else:
        _refuse_pickles(source, folder + WEIGHTS)
        raise source.lacking([folder + WEIGHTS], _T5_EXPECTED)
    # Where the encoder has a folder of its own, so has the tokenizer.
    for home in (f"{base}tokenizer/", folder, base) if folder != base else (base, f"{base}tokenizer/"):
        if found := [home + name for name in TOKENIZERS if home + name in source.names]:
            settings = [home + name for name in TOKENIZER_SETTINGS if home + name in source.names]
            return TextFiles((*small, *found, *settings), tuple(weights))
    raise source.lacking([base + TOKENIZERS[0]], _T5_EXPECTED)


def _refuse_pickles(source: Source, missing: str) -> None:
    """Say why pickles are refused where they lie in the place of the weights, and no safetensors beside them."""
    folder = missing.rpartition("/")[0]
    beside = [name for name in source.names if name.rpartition("/")[0] == folder]
    pickles = [name for name in beside if name.endswith(PICKLES)]
    if pickles and not any(name.endswith(".safetensors") for name in beside):
        raise CheckpointError(pickled(pickles[0]))


def pickled(name: str) -> str:
    """Why a pickled checkpoint is refused, and what to do."""
    return (
        f"{name} is a pickled checkpoint, which can run any program when it is opened; expected a .safetensors file. "
        "Download the safetensors file of the same model, or load the checkpoint where you trust it and write its state_dict "
        "with safetensors.torch.save_file"
    )


def _licenses(source: Source) -> tuple[str, ...]:
    """Licence and notice files beside the model, or at the top if there are none."""
    for base in (source.base, ""):
        own = [name for name in source.names if name.startswith(base) and "/" not in name.removeprefix(base)]
        if found := [n for n in own if any(fnmatch.fnmatchcase(n.removeprefix(base), pattern) for pattern in LICENSES)]:
            return tuple(found)
    return ()
