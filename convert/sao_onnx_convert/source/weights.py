"""Loads weights from safetensors files into the networks: no tensor may be missing or left over."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from sao_onnx_convert.errors import CheckpointError
from sao_onnx_convert.source.file_kinds import explain_unreadable, read_json
from sao_onnx_convert.source.file_names import CONFIG, INDEX
from sao_onnx_convert.source.layouts import PROJECTION, Origin, Shape, arrange, norm_shape, transformer_size, unusable

FLOATS = ("F64", "F32", "F16", "BF16")


def load_weights(module: nn.Module, path: Path, rotary: Callable[[int], Tensor]) -> None:
    """Load a module from a safetensors file or its shards, in single precision. No tensor may be missing or left over.

    Args:
        module: Also one without memory, on the device `meta`.
        path: The safetensors file. If it is sharded, the name of the index without `.index.json`.
        rotary: Gives the frequencies of a rotary embedding for a number of channels; for checkpoints without them.

    Raises:
        CheckpointError: A file is damaged or is something else, the layout cannot be used, or a tensor is missing, unknown,
            quantized, not finite or of another shape (such tensors are listed).
    """
    expected = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    with _Tensors(weight_files(path)) as stored:
        origins = arrange(expected, stored.shapes)
        _compare(expected, stored.shapes, origins, path)
        _require_floats(stored.dtypes, path)
        tensors = {name: _tensor(origin, stored, expected[name], rotary) for name, origin in origins.items()}
    require_finite(tensors, path)
    module.load_state_dict(tensors, strict=True, assign=True)


def weight_files(path: Path) -> list[Path]:
    """The file itself if it is there; otherwise the shards that the index beside it names, sorted.

    Raises:
        CheckpointError: The index cannot be read, or a shard is missing.
    """
    index = path.with_name(path.name + INDEX)
    if path.is_file() or not index.is_file():
        return [path]
    data = read_json(index, CheckpointError)
    places = data.get("weight_map") if isinstance(data, dict) else None
    if not isinstance(places, dict) or not places:
        raise CheckpointError(f"{index} names no files: expected an object `weight_map` from tensors to files")
    names = sorted({str(name) for name in places.values()})
    for name in names:
        if not re.fullmatch(r"[\w.-]+\.safetensors", name):
            raise CheckpointError(f"{index} names {name!r}, expected the names of safetensors files beside it")
    if missing := [name for name in names if not path.with_name(name).is_file()]:
        raise CheckpointError(f"{path.parent} lacks {_listed(missing)}, which {index.name} names; download it again")
    return [path.with_name(name) for name in names]


def require_floats(path: Path) -> None:
    """Refuse a safetensors file, or its shards, with anything but plain floating-point numbers.

    Raises:
        CheckpointError: Lists such tensors; or a file cannot be read.
    """
    with _Tensors(weight_files(path)) as stored:
        _require_floats(stored.dtypes, path)


def _require_floats(dtypes: dict[str, str], path: Path) -> None:
    if others := sorted(name for name, kind in dtypes.items() if kind not in FLOATS):
        kinds = ", ".join(sorted({dtypes[name] for name in others}))
        raise CheckpointError(f"{path} holds {_listed(others)} as {kinds}, expected single or half precision or bfloat16")


class _Tensors:
    """Tensors of one or several safetensors files, read one by one.

    Attributes:
        shapes: By name.
        dtypes: By name, as safetensors spells them.
    """

    def __init__(self, paths: list[Path]) -> None:
        self._paths = paths
        self._files: dict[str, tuple[Any, Path]] = {}
        self._stack = contextlib.ExitStack()
        self.shapes: dict[str, Shape] = {}
        self.dtypes: dict[str, str] = {}

    def __enter__(self) -> _Tensors:
        try:
            for path in self._paths:
                with _readable(path):
                    file = self._stack.enter_context(safe_open(path, framework="pt"))
                    for name in file.keys():  # noqa: SIM118
                        part = file.get_slice(name)
                        self._files[name] = file, path
                        self.shapes[name], self.dtypes[name] = tuple(part.get_shape()), part.get_dtype()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def read(self, name: str) -> Tensor:
        """A tensor in single precision."""
        file, path = self._files[name]
        with _readable(path):
            tensor: Tensor = file.get_tensor(name).to(torch.float32)
        return tensor


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (SafetensorError, OSError) as error:
        reason = explain_unreadable(path, str(error))
        raise CheckpointError(f"{path} cannot be read as safetensors: {reason}") from error


def _tensor(origin: Origin, stored: _Tensors, shape: Shape, rotary: Callable[[int], Tensor]) -> Tensor:
    if origin.how == "zeros":
        return torch.zeros(shape)
    if origin.how == "rotary":
        return rotary(2 * shape[0])
    tensor = stored.read(origin.source)
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
        raise CheckpointError(f"{path} holds NaN or infinite values in {_listed(broken)}; download it again")


def _compare(expected: dict[str, Shape], stored: dict[str, Shape], origins: dict[str, Origin], path: Path) -> None:
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
            f"{path} does not match {CONFIG}: found a transformer of {size}, expected one of {other}; the two files belong to "
            "different models"
        )
    problems = [
        f"{title}: {_listed(names)}"
        for title, names in (
            ("missing", missing),
            ("not in the configured model", extra),
            ("misshapen", [text for _, text in shapes]),
        )
        if names
    ]
    if all(PROJECTION.fullmatch(name) for name in (*missing, *extra, *(name for name, _ in shapes))):
        problems.append("so the T5 encoder is not as wide as the one that the model was trained with; give that one with --t5")
    raise CheckpointError(f"{path} does not match {CONFIG}; " + "; ".join(problems))


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:8])
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"
