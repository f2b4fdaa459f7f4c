"""Layouts of checkpoints: where each tensor is in those that can be used, and what the others are."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

Shape = tuple[int, ...]

WHOLE = "expected a whole checkpoint of stable-audio-tools, with tensors under model., conditioner. and pretransform."

PARAMETRIZED = ("parametrizations.weight.original0", "parametrizations.weight.original1")
"""What PyTorch's newer weight norm calls the magnitude and the direction, `weight_g` and `weight_v` of the older one."""

LAYOUTS = {
    "a LoRA or another adapter, not a whole model; convert the model that it was made for, or merge it into that one first": (
        r"(^|[._])lora[._]|lora_?(up|down|A|B)\b|dora_scale|hada_w|lokr_w"
    ),
    "quantized (it holds scales beside its weights); expected weights in single or half precision": (
        r"\.(qweight|qzeros|absmax|quant_map|SCB|weight_scale|scale_weight|weight_format)$|\.quant_state\."
    ),
    "a training snapshot (a Lightning checkpoint); export the model from it with unwrap_model.py of stable-audio-tools": (
        r"^(state_dict\.)?(diffusion|diffusion_ema|autoencoder|autoencoder_ema|ema_model|discriminator|losses|optimizer_states)\."
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
        base, _, last = name.rpartition(".")
        if name in found:
            origins[name] = Origin("stored", name)
        elif last in ("weight_g", "weight_v"):
            index = ("weight_g", "weight_v").index(last)
            if (parametrized := f"{base}.{PARAMETRIZED[index]}") in found:
                origins[name] = Origin("stored", parametrized)
            elif (plain := f"{base}.weight") in found:
                origins[name] = Origin("norm" if last == "weight_g" else "direction", plain)
        # Buffers whose values are the same in every checkpoint.
        elif name.endswith("_norm.beta"):
            origins[name] = Origin("zeros", "")
        elif last == "inv_freq":
            origins[name] = Origin("rotary", "")
    return origins


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
        return f"it holds no tensors; {WHOLE}"
    unknown = set(names) - {origin.source for origin in arrange(expected, names).values()}
    for description, pattern in LAYOUTS.items():
        if any(re.search(pattern, name) for name in unknown):
            return f"it is {description}"
    return _wrapped(expected, names) or _part(names)


def transformer_size(shapes: Mapping[str, Shape]) -> str:
    """Number of blocks and width of the transformer, in words.

    Args:
        shapes: Shapes of all tensors by name.
    """
    blocks = {match[1] for name in shapes if (match := re.match(r"model\.model\.transformer\.layers\.(\d+)\.", name))}
    width = shapes.get("model.model.transformer.project_in.weight", ())
    return f"{len(blocks)} blocks" + (f" and {width[0]} channels" if width else "")


def _wrapped(expected: Collection[str], names: list[str]) -> str | None:
    """What is wrong where names have a prefix, or where the model was compiled."""
    if any("_orig_mod." in name for name in names):
        return "it was saved from a compiled model (its names hold `_orig_mod.`); save the model as it is before torch.compile"
    wanted = set(expected)
    for name in names:
        for start in ("model.model.", "pretransform.model.", "conditioner.conditioners."):
            prefix, found, _ = name.partition(start)
            if found and prefix and name.removeprefix(prefix) in wanted:
                return (
                    f"its names begin with {prefix!r}, as of a model inside a wrapper; save the state_dict of the model alone"
                )
    return None


def _part(names: list[str]) -> str | None:
    """What is wrong where only a part of the model was saved."""
    transformer = any(re.match(r"model\.model\.", name) for name in names)
    autoencoder = any(name.startswith("pretransform.") for name in names)
    conditioners = any(name.startswith("conditioner.") for name in names)
    if transformer and autoencoder and conditioners:
        if any(re.match(r"conditioner\.conditioners\.[^.]+\.model\.", name) for name in names):
            return (
                "it holds a text encoder of its own, trained with the rest (`enable_grad`), which is not supported; expected a "
                "model that was trained with a T5 as it is published"
            )
        return None
    whole = "the other parts of the model are needed too; " + WHOLE
    if autoencoder or any(re.match(r"(model\.)?(encoder|decoder)\.layers\.", name) for name in names):
        return None if transformer else f"it is an autoencoder alone; {whole}"
    if transformer and conditioners:
        return f"it is a model without its autoencoder; {whole}"
    if transformer or any(
        re.match(r"(model\.)?(transformer\.layers|to_timestep_embed|diffusion_model)\.", name) for name in names
    ):
        return f"it is the transformer alone; {whole}"
    return f"it holds conditioners alone; {whole}" if conditioners else None
