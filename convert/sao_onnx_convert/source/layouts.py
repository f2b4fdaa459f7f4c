"""Layouts of checkpoints: where each tensor is in those that can be used, and what the others are."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

Shape = tuple[int, ...]

WHOLE = "expected a whole checkpoint of stable-audio-tools, with tensors under model., conditioner. and pretransform."

BASE = "give the model that it was made from with --base (base=...), and the other parts come from there"

PARAMETRIZED = ("parametrizations.weight.original0", "parametrizations.weight.original1")
"""What PyTorch's newer weight norm calls the magnitude and the direction, `weight_g` and `weight_v` of the older one."""

LAYOUTS = {
    "a LoRA or another adapter, not a whole model; convert the model that it was made for, and give the adapter with --lora": (
        r"(^|[._])lora[._]|lora_?(up|down|A|B)\b|dora_scale|hada_w|lokr_w"
    ),
    "quantized (it holds scales beside its weights); expected weights in single or half precision": (
        r"\.(qweight|qzeros|absmax|quant_map|SCB|weight_scale|scale_weight|weight_format)$|\.quant_state\."
    ),
    "in the Diffusers layout; " + WHOLE: (
        r"(^|\.)transformer_blocks\.\d|^(encoder|decoder)\.(block\.\d+\.(conv|res_unit|snake)|conv\d\.|snake\d\.)"
        r"|^(start|end)_number_conditioner\.|^proj_(in|out)\."
    ),
    "a T5 text encoder, not the audio model; it belongs to --t5": (
        r"^(encoder\.block\.\d+\.layer\.|shared\.weight$|encoder\.embed_tokens\.)"
    ),
}
"""Layouts that cannot be used, and the pattern of their tensors' names; the most certain ones come first."""

PROJECTION = re.compile(r"conditioner\.conditioners\.[^.]+\.proj_out\.(weight|bias)")


@dataclass(frozen=True)
class Origin:
    """Where a tensor of the model comes from.

    Attributes:
        how: `stored` under the name `source`; the `norm` or the `direction` of the plain weight `source`; or, where a constant
            is absent, `zeros` or the frequencies of a rotary embedding.
        source: Name in the checkpoint, empty for a constant.
    """

    how: Literal["stored", "norm", "direction", "zeros", "rotary"]
    source: str


def arrange(expected: Collection[str], found: Collection[str]) -> dict[str, Origin]:
    """Where each tensor of the model comes from. A tensor that the checkpoint does not give is left out.

    Weight-normalised weights may be stored as `weight_g` and `weight_v`, under PyTorch's newer names for them, or as the plain
    `weight` from which the norm was removed. Buffers that are the same in every checkpoint may be absent.

    Args:
        expected: Names of the model's tensors.
        found: Names of the checkpoint's tensors.
    """
    origins: dict[str, Origin] = {}
    for name in expected:
        last = name.rpartition(".")[2]
        source = next((other for other in alternatives(name) if other in found), None)
        if source is not None and source.endswith(".weight") and source != name:
            origins[name] = Origin("norm" if last == "weight_g" else "direction", source)
        elif source is not None:
            origins[name] = Origin("stored", source)
        # Buffers whose values are the same in every checkpoint.
        elif name.endswith("_norm.beta"):
            origins[name] = Origin("zeros", "")
        elif last == "inv_freq":
            origins[name] = Origin("rotary", "")
    return origins


def alternatives(name: str) -> tuple[str, ...]:
    """Names under which a tensor of the model may be stored, its own first."""
    base, _, last = name.rpartition(".")
    if last not in ("weight_g", "weight_v"):
        return (name,)
    return name, f"{base}.{PARAMETRIZED[last == 'weight_v']}", f"{base}.weight"


def norm_shape(shape: Shape) -> Shape:
    """Shape of `weight_g` for a weight of the given shape: the norm is taken over all axes but the first."""
    return (shape[0], *(1 for _ in shape[1:])) if shape else shape


def unusable(expected: Collection[str], found: Collection[str]) -> str | None:
    """What a checkpoint that cannot be used is, and what to do; None where that is not known.

    Args:
        expected: Names of the model's tensors.
        found: Names of the checkpoint's tensors.
    """
    names = list(found)
    if not names:
        return f"it holds no weights of a model; {WHOLE}"
    unknown = set(names) - {origin.source for origin in arrange(expected, names).values()}
    for description, pattern in LAYOUTS.items():
        if any(re.search(pattern, name) for name in unknown):
            return f"it is {description}"
    return _part(names)


def transformer_size(shapes: Mapping[str, Shape]) -> str:
    """Number of blocks and width of the transformer, in words.

    Args:
        shapes: Shapes of all tensors by name.
    """
    blocks = {match[1] for name in shapes if (match := re.match(r"model\.model\.transformer\.layers\.(\d+)\.", name))}
    width = shapes.get("model.model.transformer.project_in.weight", ())
    return f"{len(blocks)} blocks" + (f" and {width[0]} channels" if width else "")


def _part(names: list[str]) -> str | None:
    """What is wrong where only a part of the model was saved."""
    starts = {"transformer": "model.model.", "autoencoder": "pretransform.", "conditioners": "conditioner."}
    there = [part for part, start in starts.items() if any(name.startswith(start) for name in names)]
    if len(there) == len(starts):
        if any(re.match(r"conditioner\.conditioners\.[^.]+\.model\.", name) for name in names):
            return (
                "it holds a text encoder of its own, trained with the rest (`enable_grad`), which is not supported; expected a "
                "model that was trained with a T5 as it is published"
            )
        return None
    if not there:
        return f"it holds nothing of such a model, but {', '.join(sorted(names)[:4])}; {WHOLE}"
    found = {"transformer": "the transformer alone", "autoencoder": "an autoencoder alone"}.get(there[0], "conditioners alone")
    if len(there) > 1:
        found = f"a model without its {next(part for part in starts if part not in there)}"
    return f"it is {found}; {BASE}"
