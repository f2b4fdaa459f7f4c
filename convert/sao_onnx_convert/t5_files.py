"""Which files of a folder or repository make up a T5 encoder and its tokenizer."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from sao_onnx_convert.checkpoint import WEIGHTS
from sao_onnx_convert.errors import CheckpointError
from sao_onnx_convert.file_kinds import PICKLES, file_names
from sao_onnx_convert.weights import INDEX

CONFIG = "config.json"
FAST = "tokenizer.json"
PIECES = "spiece.model"
SETTINGS = ("tokenizer_config.json", "added_tokens.json", "special_tokens_map.json")
SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")


@dataclass(frozen=True)
class T5Files:
    """Files of a T5, relative to its folder, with `/` between.

    Attributes:
        config: The encoder's `config.json`.
        weights: Its safetensors file; or the index of its shards, and the shards.
        tokenizer: `tokenizer.json`; or `spiece.model`, from which the tokenizer is made.
        settings: What else says how the tokenizer pads and marks, as far as it is there.
    """

    config: str
    weights: tuple[str, ...]
    tokenizer: str
    settings: tuple[str, ...]

    @property
    def all(self) -> tuple[str, ...]:
        """Every file that a conversion reads."""
        return (self.config, *self.weights, self.tokenizer, *self.settings)


def t5_files(names: Collection[str], place: str) -> T5Files:
    """Pick the files of a T5 from a listing: all beside each other, or in `text_encoder/` and `tokenizer/`.

    Args:
        names: All files of a folder or repository, relative to it, with `/` between.
        place: What the errors call it.

    Raises:
        CheckpointError: A file is missing; the error says what is there.
    """
    there = set(names)
    for encoder, tokenizer in (
        ("", ""),
        ("text_encoder/", "tokenizer/"),
        ("text_encoder/", "text_encoder/"),
        ("", "tokenizer/"),
    ):
        weights = _weights(there, encoder)
        pieces = next((tokenizer + name for name in (FAST, PIECES) if tokenizer + name in there), None)
        if encoder + CONFIG in there and weights and pieces:
            settings = tuple(tokenizer + name for name in SETTINGS if tokenizer + name in there)
            return T5Files(encoder + CONFIG, weights, pieces, settings)
    raise CheckpointError(f"{place} lacks {_missing(there)}")


def find_t5(folder: Path) -> tuple[Path, T5Files]:
    """The files of a T5 on this machine.

    Args:
        folder: Holds them as `t5_files` expects; or is a `text_encoder` with a `tokenizer` beside it.

    Returns:
        The folder that the files are relative to, and the files.

    Raises:
        CheckpointError: As `t5_files` does.
    """
    folder = t5_root(folder)
    return folder, t5_files(file_names(folder), str(folder))


def t5_root(folder: Path) -> Path:
    """The folder of a whole T5 where its `text_encoder` was named and the tokenizer lies beside that; else the same folder."""
    whole = folder.resolve().parent
    alone = folder.resolve().name == "text_encoder" and not {FAST, PIECES} & set(file_names(folder))
    return whole if alone and (whole / "tokenizer").is_dir() else folder


def _weights(there: set[str], folder: str) -> tuple[str, ...]:
    if folder + WEIGHTS in there:
        return (folder + WEIGHTS,)
    if folder + WEIGHTS + INDEX in there:
        shards = (name for name in there if name.startswith(folder) and SHARD.fullmatch(name.removeprefix(folder)))
        return (folder + WEIGHTS + INDEX, *sorted(shards))
    return ()


def _missing(there: set[str]) -> str:
    encoder = "text_encoder/" if f"text_encoder/{CONFIG}" in there else ""
    missing = [] if encoder + CONFIG in there else [CONFIG]
    if not _weights(there, encoder):
        missing.append(encoder + WEIGHTS)
    if not any(folder + name in there for folder in {"", encoder, "tokenizer/"} for name in (FAST, PIECES)):
        missing.append(f"{FAST} (or {PIECES})")
    text = " and ".join(missing)
    if encoder + WEIGHTS in missing:
        pickled = sorted(name for name in there if name.startswith(encoder) and Path(name).suffix in PICKLES)
        others = sorted(name for name in there if name.startswith(encoder) and name.endswith(".safetensors"))
        if others:
            return f"{text}; it holds {', '.join(others[:5])}: give the one that is the encoder the name {WEIGHTS}"
        if pickled:
            return (
                f"{text}: it holds {pickled[0]}, a pickled checkpoint, which can run any program when it is opened; take a T5 "
                "with safetensors, such as google-t5/t5-base"
            )
    held = sorted(there)
    return text + (f"; it holds {', '.join(held[:8])}{' and more' if len(held) > 8 else ''}" if held else "; it is empty")
