"""Layouts in which the tensors of a checkpoint are found: those that can be used, and names for those that cannot."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from sao_onnx_convert.file_kinds import PICKLES

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
"""Layouts by what their tensors' names look like, the surest first."""

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
    """For each tensor of the model that the checkpoint can give, from which of its tensors.

    Weight-normalised weights may be stored as `weight_g` and `weight_v`, under PyTorch's newer names for them, or as the plain
    `weight` from which the norm was removed. Buffers that never change may be absent.

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
    """The layout of a checkpoint that cannot be used, and what to do; None where it has no name.

    Args:
        expected: Names of the model's tensors.
        found: Names of the checkpoint's tensors.
    """
    names = list(found)
    if not names:
        return f"it holds no tensors; {WHOLE}"
    strange = set(names) - {origin.source for origin in arrange(expected, names).values()}
    for description, pattern in LAYOUTS.items():
        if any(re.search(pattern, name) for name in strange):
            return f"it is {description}"
    return _wrapped(expected, names) or _part(names)


def transformer_size(shapes: Mapping[str, Shape]) -> str:
    """Blocks and width of the transformer among tensors, as words."""
    blocks = {match[1] for name in shapes if (match := re.match(r"model\.model\.transformer\.layers\.(\d+)\.", name))}
    width = shapes.get("model.model.transformer.project_in.weight", ())
    return f"{len(blocks)} blocks" + (f" and {width[0]} channels" if width else "")


def _wrapped(expected: Collection[str], names: list[str]) -> str | None:
    """A prefix before every name, or a compiled module within them."""
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
    """A part of the model that was saved without the others."""
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


def other_model(names: Collection[str]) -> str | None:
    """What a folder or repository without `model_config.json` or `model.safetensors` is, by its files; None if it has no name.

    Args:
        names: Its files, with their folders, `/` between them.
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
