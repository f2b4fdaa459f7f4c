"""What the graph of each role takes and returns. A manifest that promises something else is refused."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from sao_onnx.bundle.manifest import Manifest, Role, Tensor
from sao_onnx.bundle.schema import SchemaError

Axes = tuple[int | str, ...]
"""Sizes of axes: a number; or a name, and all axes of a graph with that name have the same size. "" is any size."""

_KEYS: Axes = ("", "batch", "tokens", "")
"""Keys or values of the cross-attention: [blocks, batch, tokens, heads × head width]."""


def check_signatures(manifest: Manifest) -> None:
    """Compare the inputs and outputs of every graph with those of its role.

    Raises:
        SchemaError: Says which graph it is, what was found and what was expected.
    """
    for graph in manifest.graphs:
        if graph.role not in manifest.roles:
            continue  # Nothing opens it.
        inputs, outputs = _signature(manifest, graph.role)
        field = f"graphs: {graph.role} in {graph.precision}"
        named = {tensor.name: tensor for tensor in graph.inputs}
        if None in inputs and len(named) == 1:
            inputs = dict(zip(named, inputs.values(), strict=False))
        if named.keys() != inputs.keys() or len(named) != len(graph.inputs):
            wanted = ", ".join(name or "one" for name in inputs)
            raise SchemaError(field, f"found the inputs {_shown(graph.inputs)}, expected {wanted}")
        if len(graph.outputs) != len(outputs):
            raise SchemaError(field, f"found the outputs {_shown(graph.outputs)}, expected {len(outputs)}")
        pairs = [*((named[str(name)], axes) for name, axes in inputs.items()), *zip(graph.outputs, outputs, strict=True)]
        _check_axes(field, pairs)


def frames_ratio(manifest: Manifest, role: Role) -> Fraction | None:
    """Frames of a graph's outputs for one of its input, where it changes their number.

    A decoder with odd strides returns a few frames less: fewer than one frame of its input makes.
    """
    if role == "encoder":
        return Fraction(1, manifest.latents.ratio)
    if role not in manifest.decoder_roles:
        return None
    rates = [*(segment.rate for segment in manifest.decoder), manifest.latents.ratio]
    index = manifest.decoder_roles.index(role)
    return Fraction(rates[index + 1], rates[index])


def _signature(manifest: Manifest, role: Role) -> tuple[dict[str | None, Axes], list[Axes]]:
    """Inputs by name (None: one of any name), and outputs in their order."""
    conditioning, channels, width = manifest.conditioning, manifest.latents.channels, manifest.conditioning.width
    latents: Axes = ("batch", channels, "frames")
    if role in manifest.decoder_roles:
        first, last = role == manifest.decoder_roles[0], role == manifest.decoder_roles[-1]
        made = manifest.audio.channels if last else ""
        return {None: ("batch", channels if first else "", "")}, [("batch", made, "")]
    signatures: dict[Role, tuple[dict[str | None, Axes], list[Axes]]] = {
        "text_encoder": (
            {"input_ids": ("batch", "tokens"), "attention_mask": ("batch", "tokens")},
            [("batch", "tokens", width)],
        ),
        "number_conditioner": (
            {number.id: ("batch",) for number in conditioning.numbers},
            [("batch", 1, width)] * len(conditioning.numbers),
        ),
        "context": ({"cross_attention": ("batch", "tokens", width)}, [_KEYS, _KEYS]),
        "dit": (
            {
                "latents": latents,
                "times": ("batch",),
                "keys": _KEYS,
                "values": _KEYS,
                "global_condition": ("batch", width * len(conditioning.global_condition)),
            },
            [latents],
        ),
        "encoder": ({"audio": ("batch", manifest.audio.channels, "")}, [("batch", channels, "")] * 2),
    }
    return signatures[role]


def _check_axes(field: str, pairs: Sequence[tuple[Tensor, Axes]]) -> None:
    sizes: dict[str, int | str] = {}
    for tensor, axes in pairs:
        fits = len(tensor.shape) == len(axes)
        for found, wanted in zip(tensor.shape, axes, strict=False):
            fits &= wanted == "" or found == (sizes.setdefault(wanted, found) if isinstance(wanted, str) else wanted)
        if not fits:
            expected = ", ".join(str(axis or "any") for axis in axes)
            raise SchemaError(field, f"{tensor.name!r} has the axes {list(tensor.shape)!r:.80}, expected [{expected}]")


def _shown(tensors: Sequence[Tensor]) -> str:
    return f"{[tensor.name for tensor in tensors]!r:.80}"
