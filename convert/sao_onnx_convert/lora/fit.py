"""Finds the layers of a model that a LoRA changes, or says why they are not there."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping

from sao_onnx_convert.errors import CheckpointError
from sao_onnx_convert.lora.low_rank import Adapter, LowRank, listed

Shape = tuple[int, ...]

PREFIXES = ("", "model.", "conditioner.", "model.model.", "model.model.transformer.")
"""What stands before a layer's name where a LoRA was trained on a part: the wrapper of the DiT, the conditioners, the DiT, its
transformer."""

MOST_RANK = 4096
"""The largest rank: as many as the largest layer of the released model has inputs."""

ELSEWHERE = {
    "the T5 text encoder": r"(^|\.)encoder\.block\.\d+\.|(^|\.)conditioners\.[^.]+\.model\.",
    "the autoencoder": r"(^|\.)pretransform\.|(^|\.)(encoder|decoder)\.layers\.",
}
"""Parts of a model that a LoRA may not change, and their layers."""

BLOCK = re.compile(r"(?:^|\.)layers\.(\d+)\.")

MODELS = {(16, 1024): "Stable Audio Open Small", (24, 1536): "Stable Audio Open 1.0"}
"""Blocks and width of the transformers of published models."""


def fit(adapter: Adapter, layers: Mapping[str, Shape]) -> dict[str, LowRank]:
    """The changes of a LoRA by the model's own names of layers.

    Args:
        adapter: The LoRA.
        layers: Shapes of the weights of all layers that can be changed: Linears and convolutions.

    Raises:
        CheckpointError: A layer is not in the model, a shape does not fit, or the LoRA was made for another model.
    """
    places: dict[str, LowRank] = {}
    strange, twice = [], []
    for name, change in adapter.layers.items():
        place = next((prefix + name for prefix in PREFIXES if prefix + name in layers), None)
        if place is None:
            strange.append(name)
        elif place in places:
            twice.append(name)
        else:
            places[place] = change
    if strange:
        raise CheckpointError(f"{adapter.title} {_misplaced(adapter, strange, layers)}")
    if twice:
        raise CheckpointError(f"{adapter.title} changes layers twice: {listed(twice)}; download or train it again")
    problems = [problem for place, change in places.items() if (problem := _misfit(place, change, layers[place]))]
    if problems:
        reason = _other_model(adapter, layers) or f"does not fit this model: {listed(problems)}"
        raise CheckpointError(f"{adapter.title} {reason}")
    return places


def _misplaced(adapter: Adapter, strange: Collection[str], layers: Mapping[str, Shape]) -> str:
    """Why layers are not in the model, as the end of a sentence."""
    for part, pattern in ELSEWHERE.items():
        if found := [name for name in strange if re.search(pattern, name)]:
            return (
                f"changes {part} ({listed(found)}), which is not supported; expected a LoRA of the transformer or of the "
                "number conditioners"
            )
    if other := _other_model(adapter, layers):
        return other
    count = f"{len(strange)} of its {len(adapter.layers)} layers"
    return f"was made for another model: {count} are not in this one: {listed(strange)}"


def _other_model(adapter: Adapter, layers: Mapping[str, Shape]) -> str | None:
    """Which model a LoRA was made for, as the end of a sentence; None if it may be this one."""
    blocks, wanted = _blocks(adapter.layers), _blocks(layers)
    width = next((width for name, change in adapter.layers.items() if (width := _width(name, change))), None)
    own = next((shape[1] for name, shape in layers.items() if name.endswith("self_attn.to_qkv")), None)
    if blocks <= wanted and width in (None, own):
        return None
    # A LoRA need not change every block.
    known = [name for (b, w), name in MODELS.items() if (blocks == b if width is None else blocks <= b and width == w)]
    title = f", {known[0]} by its size" if known else ""
    return (
        f"was made for another model{title}: found a transformer of at least {blocks} blocks"
        f"{f' and {width} channels' if width else ''}, expected one of {wanted} blocks and {own} channels"
    )


def _blocks(names: Collection[str]) -> int:
    """Blocks of the transformer, of a LoRA only those up to the last that it changes."""
    # More than five digits number no block; and no number of any length costs time.
    return max((int(match[1][:6]) + 1 for name in names if (match := BLOCK.search(name))), default=0)


def _width(name: str, change: LowRank) -> int | None:
    """Channels of the transformer, from a layer of a LoRA; None where it does not tell."""
    if ".self_attn." not in f".{name}":
        return None
    if change.down is not None and change.down.ndim > 1:
        return math.prod(change.down.shape[1:])
    if change.columns is not None:
        return change.columns.size
    return change.rows.size if change.rows is not None and name.endswith("to_out") else None


def _misfit(place: str, change: LowRank, shape: Shape) -> str | None:
    """How a change does not fit the weight of a layer; None if it does."""
    outputs, inputs = shape[0], math.prod(shape[1:])
    ones = (1,) * (len(shape) - 2)
    if change.core is not None:
        rank = change.core.shape[0] if change.core.ndim else 0
        fits = change.core.shape == (rank, rank) and 1 <= rank <= min(outputs, inputs)
        found = f"a core {list(change.core.shape)}"
    elif change.down is not None and change.up is not None:
        rank = change.down.shape[0] if change.down.ndim else 0
        fits = change.down.shape in ((rank, inputs), (rank, *shape[1:]))
        fits = fits and change.up.shape in ((outputs, rank), (outputs, rank, *ones)) and rank >= 1
        found = f"{list(change.up.shape)} by {list(change.down.shape)}"
    else:
        return f"{place} has no product"
    if not fits:
        return f"{place} {found}, expected a product for {list(shape)}"
    if rank > MOST_RANK:
        return f"{place} of rank {rank}, expected at most {MOST_RANK}"
    for title, magnitude, size in (("rows", change.rows, outputs), ("columns", change.columns, inputs)):
        if magnitude is not None and (magnitude.size != size or max(magnitude.shape, default=0) != size):
            return f"{place} magnitudes of {title} {list(magnitude.shape)}, expected {size}"
    return None
