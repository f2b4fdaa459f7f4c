"""Names of T5 encoders, their repositories and their sizes."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class T5Sizes:
    """The sizes of an encoder, named as in its `config.json`.

    Attributes:
        d_model: Channels of the embeddings.
        d_ff: Channels inside a feed-forward.
        d_kv: Channels of a head.
        num_layers: Blocks of the encoder.
        num_heads: Heads of an attention.
        gated: Whether the feed-forward is gated (T5 1.1 and FLAN-T5), or plain with ReLU (the first T5).
    """

    d_model: int
    d_ff: int
    d_kv: int
    num_layers: int
    num_heads: int
    gated: bool


SIZES = {
    "t5-small": T5Sizes(512, 2048, 64, 6, 8, gated=False),
    "t5-base": T5Sizes(768, 3072, 64, 12, 12, gated=False),
    "t5-large": T5Sizes(1024, 4096, 64, 24, 16, gated=False),
    "t5-3b": T5Sizes(1024, 16384, 128, 24, 32, gated=False),
    "t5-11b": T5Sizes(1024, 65536, 128, 24, 128, gated=False),
    "flan-t5-small": T5Sizes(512, 1024, 64, 8, 6, gated=True),
    "flan-t5-base": T5Sizes(768, 2048, 64, 12, 12, gated=True),
    "flan-t5-large": T5Sizes(1024, 2816, 64, 24, 16, gated=True),
    "flan-t5-xl": T5Sizes(2048, 5120, 64, 24, 32, gated=True),
    "flan-t5-xxl": T5Sizes(4096, 10240, 64, 24, 64, gated=True),
}
"""Sizes by the last part of the name, from the models' own configurations."""

SIZES |= {name.replace("flan-t5", "t5-v1_1"): sizes for name, sizes in SIZES.items() if name.startswith("flan")}


def short_name(name: str) -> str:
    """The last part of a repository id or path, in lower case: `google-t5/T5-Base` and `/models/t5-base/` are `t5-base`."""
    return re.split(r"[/\\]", name.strip().rstrip("/\\"))[-1].lower()


def is_path(name: str) -> bool:
    """Whether a name is a path on somebody's machine. Such a name hardly tells which T5 it is."""
    return name.startswith(("/", ".", "~")) or "\\" in name or name.count("/") > 1


def is_t5(name: str) -> bool:
    """Whether a name is that of a T5: `t5` is a word of its own in its last part, unlike in `t5gemma-b-b-ul2` or `umt5-xl`."""
    return re.search(r"(?<![a-z0-9])t5(?![a-z0-9])", short_name(name)) is not None


def repository(name: str) -> str | None:
    """The repository on the Hugging Face hub for a `t5_model_name`; None where that is not known."""
    short = short_name(name)
    if short in SIZES:
        # Wherever somebody keeps a copy, these are the originals. The hub has moved the first ones under `google-t5`.
        return f"google-t5/{short}" if short in ("t5-small", "t5-base", "t5-large", "t5-3b", "t5-11b") else f"google/{short}"
    return name if name.count("/") == 1 and not is_path(name) else None
