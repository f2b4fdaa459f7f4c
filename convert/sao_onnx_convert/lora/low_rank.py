"""What a LoRA changes, whatever program wrote it: NumPy and no file, so that whoever computes with it need not be PyTorch."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sao_onnx_convert.errors import CheckpointError

Array = NDArray[np.float32]

Kind = Literal["lora", "dora-rows", "dora-cols", "bora", "dora-outputs"]
"""How the low-rank product becomes part of a weight; `arithmetic` has the formulas. The `-xs` of stable-audio-tools are the
same kinds with a `core`."""


@dataclass(frozen=True, eq=False)
class LowRank:
    """The change of one layer. The layer's weight counts as a matrix [outputs, inputs × kernel].

    Attributes:
        kind: How it is applied.
        scale: What the product is multiplied by at strength 1.
        down: [rank, inputs], of a convolution perhaps [rank, inputs, kernel]; None where there is a core.
        up: [outputs, rank], of a convolution perhaps [outputs, rank, 1]; None where there is a core.
        core: [rank, rank], between the first singular vectors of the layer's own weight; None where there are `down` and `up`.
        rows: Length of each row of the new weight, [outputs] in any shape; None where they follow from the product.
        columns: Length of each column, [inputs × kernel] in any shape; likewise.
    """

    kind: Kind
    scale: float
    down: Array | None = None
    up: Array | None = None
    core: Array | None = None
    rows: Array | None = None
    columns: Array | None = None


@dataclass(frozen=True, eq=False)
class Adapter:
    """A LoRA.

    Attributes:
        title: Its path, for messages.
        name: Its name without folders.
        strength: What its changes are multiplied by.
        sha256: Digest of its weights' file, in hexadecimal.
        layers: Its changes, by the names of layers in the part of the model that it was trained on.
    """

    title: str
    name: str
    strength: float
    sha256: str
    layers: Mapping[str, LowRank]


LONGEST_NAME = 500
"""Characters of a tensor's name."""


def by_layer(title: str, tensors: Mapping[str, Array], pattern: re.Pattern[str]) -> dict[str, dict[str, Array]]:
    """Tensors by layer and part.

    Args:
        title: The file, for messages.
        tensors: By name.
        pattern: Matches a whole name; its groups are `layer` and `part`.

    Raises:
        CheckpointError: A name does not match, or two name the same part.
    """
    layers: dict[str, dict[str, Array]] = {}
    strange = []
    for name, tensor in tensors.items():
        match = pattern.fullmatch(name) if len(name) <= LONGEST_NAME else None
        if match is None or match["part"] in layers.setdefault(match["layer"], {}):
            strange.append(name)
        else:
            layers[match["layer"]][match["part"]] = tensor
    if strange:
        raise CheckpointError(f"{title} holds more than a LoRA, which cannot be merged: {listed(strange)}")
    return layers


def require_parts(title: str, layer: str, found: Collection[str], expected: Collection[str]) -> None:
    """Refuse a layer that lacks a part, or has one too many.

    Raises:
        CheckpointError: Says what was found and what was expected.
    """
    if set(found) != set(expected):
        raise CheckpointError(
            f"{title} contradicts itself: for {layer} it holds {', '.join(sorted(found))}, expected "
            f"{', '.join(sorted(expected))}; save or download it again"
        )


def listed(names: Collection[str]) -> str:
    """The first few of many names, for a message, and how many they are."""
    # A hostile name could be a page long, or write to the terminal.
    shown = ", ".join(name if name.isprintable() and len(name) <= 120 else f"{name[:80]!r}..." for name in sorted(names)[:4])
    return shown if len(names) <= 4 else f"{shown} and {len(names) - 4} more"
