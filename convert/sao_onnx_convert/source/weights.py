"""Reads the weights of the networks from the files of a checkpoint: no tensor may be missing or left over."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sao_onnx_convert.errors import CheckpointError
from sao_onnx_convert.source.layouts import PROJECTION, Origin, Shape, arrange, norm_shape, transformer_size, unusable
from sao_onnx_convert.source.parts import PARTS, AmbiguousError, Found, find_parts
from sao_onnx_convert.source.stored import FLOATS, Stored, listed, open_stored

Rotary = Callable[[int], Tensor]
"""Gives the frequencies of a rotary embedding for a number of channels; for checkpoints without them."""


@dataclass(frozen=True)
class Reading:
    """What was read of a checkpoint, by the names of the model.

    Attributes:
        tensors: In single precision.
        averaged: Parts whose averaged weights (EMA) were taken.
        borrowed: Parts that came from the other checkpoint.
    """

    tensors: dict[str, Tensor]
    averaged: tuple[str, ...]
    borrowed: tuple[str, ...]


def read_weights(
    expected: Mapping[str, Shape], path: Path, rotary: Rotary, *, base: Path | None = None, average: bool = True
) -> Reading:
    """Read a model's tensors from a checkpoint of any layout. Only these are read, one after the other.

    Args:
        expected: Shapes of the model's tensors by name.
        path: The weights. If they are sharded, the name of the index without `.index.json`.
        rotary: See `Rotary`.
        base: Weights of another checkpoint, for the parts that are not in the first.
        average: Take averaged weights (EMA) where there are some, as the reference does.

    Raises:
        CheckpointError: A file is damaged or is something else, the layout cannot be used, or a tensor is missing, unknown,
            quantized, not finite or of another shape (such tensors are listed).
    """
    with contextlib.ExitStack() as stack:
        stored = stack.enter_context(open_stored(path))
        found = _find(expected, stored, average)
        missing = [part for part in PARTS if part not in found.prefixes] if base is not None and found.prefixes else []
        own = {name: shape for name, shape in expected.items() if not _of(name, missing)}
        tensors = _read(own, stored, found, rotary)
        if base is not None and missing:
            other = stack.enter_context(open_stored(base))
            rest = {name: shape for name, shape in expected.items() if _of(name, missing)}
            lent = _find(expected, other, average)
            if lost := [part for part in missing if part not in lent.prefixes]:
                raise CheckpointError(
                    f"{base} lacks the {' and the '.join(lost)}, and so does {path.name}; give the whole model that "
                    f"{path.name} was made from with --base (base=...)"
                )
            places = {name: place for name, place in lent.places.items() if _of(name, missing)}
            tensors |= _read(rest, other, Found(places, lent.prefixes, lent.averaged), rotary)
    return Reading(tensors, tuple(sorted(found.averaged)), tuple(missing))


def _of(name: str, parts: list[str]) -> bool:
    return name.startswith(tuple(PARTS[part] for part in parts))


def require_floats(path: Path) -> None:
    """Refuse a file of weights, or its shards, with anything but plain floating-point numbers.

    Raises:
        CheckpointError: Lists such tensors; or a file cannot be read.
    """
    with open_stored(path) as stored:
        _require_floats(stored.dtypes, path)


def _require_floats(dtypes: Mapping[str, str], path: Path) -> None:
    if others := sorted(name for name, kind in dtypes.items() if kind not in FLOATS):
        kinds = ", ".join(sorted({dtypes[name] for name in others}))
        raise CheckpointError(f"{path} holds {listed(others)} as {kinds}, expected single or half precision or bfloat16")


def _find(expected: Mapping[str, Shape], stored: Stored, average: bool) -> Found:
    try:
        return find_parts(expected.keys(), stored.shapes.keys(), average)
    except AmbiguousError as error:
        raise CheckpointError(f"{stored.path} cannot be used: {error}") from error


def _read(expected: Mapping[str, Shape], stored: Stored, found: Found, rotary: Rotary) -> dict[str, Tensor]:
    """The tensors of some parts of a model."""
    shapes = {name: stored.shapes[place] for name, place in found.places.items()}
    origins = arrange(expected, shapes)
    _compare(expected, shapes, origins, stored.path)
    _require_floats({name: stored.dtypes[place] for name, place in found.places.items()}, stored.path)

    def read(name: str) -> Tensor:
        return stored.read(found.places[name])

    tensors = {name: _tensor(origin, read, expected[name], rotary) for name, origin in origins.items()}
    require_finite(tensors, stored.path)
    return tensors


def _tensor(origin: Origin, read: Callable[[str], Tensor], shape: Shape, rotary: Rotary) -> Tensor:
    if origin.how == "zeros":
        return torch.zeros(shape)
    if origin.how == "rotary":
        return rotary(2 * shape[0])
    tensor = read(origin.source)
    if origin.how == "stored":
        return tensor
    norm: Tensor = tensor.flatten(1).norm(dim=1).reshape(norm_shape(tuple(tensor.shape)))
    if origin.how == "norm":
        return norm
    # A kernel of zeros has no direction. Any will do, because its norm is zero.
    direction: Tensor = torch.where(norm > 0, tensor, torch.ones_like(tensor))
    return direction


def require_finite(tensors: dict[str, Tensor], path: Path) -> None:
    """Refuse NaN and infinite weights.

    Raises:
        CheckpointError: Lists the tensors.
    """
    broken = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise CheckpointError(f"{path} holds NaN or infinite values in {listed(broken)}; download it again")


def _compare(expected: Mapping[str, Shape], stored: Mapping[str, Shape], origins: dict[str, Origin], path: Path) -> None:
    missing = sorted(expected.keys() - origins.keys())
    extra = sorted(stored.keys() - {origin.source for origin in origins.values()})
    shapes = []
    for name in sorted(origins):
        origin, wanted = origins[name], expected[name]
        if not origin.source:
            continue
        found = stored[origin.source]
        if (norm_shape(found) if origin.how == "norm" else found) != wanted:
            shapes.append((name, f"{origin.source} {list(found)}, expected {list(wanted)}"))
    if not (missing or extra or shapes):
        return
    if (missing or extra) and (layout := unusable(expected, stored.keys())):
        raise CheckpointError(f"{path} cannot be used: {layout}")
    size, other = transformer_size(stored), transformer_size(expected)
    if size != other:
        raise CheckpointError(
            f"{path} does not match its configuration: found a transformer of {size}, expected one of {other}; the two files "
            "belong to different models"
        )
    problems = [
        f"{title}: {listed(names)}"
        for title, names in (
            ("missing", missing),
            ("not in the configured model", extra),
            ("misshapen", [text for _, text in shapes]),
        )
        if names
    ]
    if all(PROJECTION.fullmatch(name) for name in (*missing, *extra, *(name for name, _ in shapes))):
        problems.append("so the T5 encoder is not as wide as the one that the model was trained with; give that one with --t5")
    raise CheckpointError(f"{path} does not match its configuration; " + "; ".join(problems))
