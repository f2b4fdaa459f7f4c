"""Chooses the files of a T5 encoder and its tokenizer from those in a folder or repository."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sao_onnx_convert.errors import ConversionError
from sao_onnx_convert.source.file_names import (
    CONFIG,
    INDEX,
    PIECES,
    SHARD,
    T5_CONFIG,
    TOKENIZER,
    TOKENIZER_SETTINGS,
    WEIGHTS,
)
from sao_onnx_convert.source.files import WeightFiles, choose_weights, lone_pickle
from sao_onnx_convert.source.source import Folder, Source

ENCODER_FOLDER, TOKENIZER_FOLDER = "text_encoder/", "tokenizer/"
"""Folders of the encoder and of the tokenizer in a model of several parts."""

LANDMARKS = (T5_CONFIG, ENCODER_FOLDER + T5_CONFIG)
"""Files of which at least one is in every repository of a T5."""

_EXPECTED = (
    f"expected {T5_CONFIG}, {WEIGHTS} (or its parts with {WEIGHTS}.index.json) and {TOKENIZER} (or {PIECES}), or these in "
    f"{ENCODER_FOLDER} and {TOKENIZER_FOLDER}"
)


@dataclass(frozen=True)
class T5Files:
    """Files of a T5, by their paths in its source.

    Attributes:
        config: The encoder's `config.json`.
        weights: The encoder's.
        tokenizer: `tokenizer.json`; or `spiece.model`, from which the tokenizer is made.
        settings: Other files of the tokenizer, as far as they are there: its padding and special tokens.
    """

    config: str
    weights: WeightFiles
    tokenizer: str
    settings: tuple[str, ...]

    @property
    def small(self) -> tuple[str, ...]:
        """All files but the weights. They are read before the weights are downloaded."""
        index = () if self.weights.index is None else (self.weights.index,)
        return (self.config, *index, self.tokenizer, *self.settings)

    @property
    def all(self) -> tuple[str, ...]:
        """Every file that a conversion reads."""
        return (*self.small, *self.weights.files)


def choose_t5(source: Source) -> T5Files:
    """Choose the files of a T5: all in one folder, or the encoder in `text_encoder/` and the tokenizer in `tokenizer/`.

    Args:
        source: Where they are; its `base` may also be a `text_encoder/` with the tokenizer beside it.

    Raises:
        ConversionError: A file is missing. The error says which files are there.
    """
    for encoder, tokenizer in _places(source.base):
        if encoder + T5_CONFIG not in source.names:
            continue
        home = next((tokenizer + name for name in (TOKENIZER, PIECES) if tokenizer + name in source.names), None)
        if home is not None and (weights := choose_weights(source, encoder + WEIGHTS)) is not None:
            settings = tuple(tokenizer + name for name in TOKENIZER_SETTINGS if tokenizer + name in source.names)
            return T5Files(encoder + T5_CONFIG, weights, home, settings)
    raise _lacking(source)


def t5_folder(folder: Path) -> Folder:
    """The folder of a T5; the folder above it, if it is a `text_encoder` with a `tokenizer` beside it."""
    folder = folder.resolve() if folder.name in ("", "..") else folder
    alone = not any((folder / name).is_file() for name in (TOKENIZER, PIECES))
    if f"{folder.name}/" == ENCODER_FOLDER and alone and (folder.parent / TOKENIZER_FOLDER).is_dir():
        return Folder(folder.parent, base=ENCODER_FOLDER)
    return Folder(folder)


def _places(base: str) -> list[tuple[str, str]]:
    """Folders of the encoder and of the tokenizer, the likeliest first."""
    inner = base + ENCODER_FOLDER
    places = [
        (base, base),
        (inner, base + TOKENIZER_FOLDER),
        (inner, inner),
        (inner, base),
        (base, base + TOKENIZER_FOLDER),
    ]
    if f"/{base}".endswith(f"/{ENCODER_FOLDER}"):
        places.append((base, base.removesuffix(ENCODER_FOLDER) + TOKENIZER_FOLDER))
    return places


def _lacking(source: Source) -> ConversionError:
    places, names = _places(source.base), source.names
    encoder = next((encoder for encoder, _ in places if encoder + T5_CONFIG in names), source.base)
    missing = [] if encoder + T5_CONFIG in names else [encoder + T5_CONFIG]
    no_weights = choose_weights(source, encoder + WEIGHTS) is None
    stem = encoder + WEIGHTS.removesuffix(".safetensors")
    shards = no_weights and any(SHARD.fullmatch(name.removeprefix(stem)) for name in names if name.startswith(stem))
    if no_weights:
        missing.append(encoder + WEIGHTS + (INDEX if shards else ""))
    if not any(tokenizer + name in names for _, tokenizer in places for name in (TOKENIZER, PIECES)):
        missing.append(f"{TOKENIZER} (or {PIECES})")
    remedy = _EXPECTED
    if source.base + CONFIG in names:
        remedy = f"it is an audio model, and a text encoder is wanted: {_EXPECTED}"
    elif shards:
        remedy = "it has the shards of the weights, but not their index"
    elif no_weights and (pickle := lone_pickle(source, encoder + WEIGHTS)):
        remedy = (
            f"{pickle} is a pickled checkpoint, which can run any program when it is opened; take a T5 with safetensors, such "
            "as google-t5/t5-base"
        )
    elif no_weights and any(name.startswith(encoder) and name.endswith(".safetensors") for name in names):
        remedy = f"the encoder's weights must have the name {WEIGHTS}"
    # All files may be there, but in several folders.
    return source.lacking(missing or [encoder + WEIGHTS], remedy)
