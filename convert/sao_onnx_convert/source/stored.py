"""The tensors of a checkpoint as its files hold them: listed first, then read one by one. Nothing is renamed here."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sao_onnx_convert.errors import CheckpointError
from sao_onnx_convert.source.file_kinds import explain_unreadable, read_json
from sao_onnx_convert.source.file_names import INDEX, PICKLES
from sao_onnx_convert.source.layouts import Shape
from sao_onnx_convert.source.pickles import is_archive, load_pickled

LONGEST_NAME = 80
"""Characters of a name in a message."""

FLOATS = ("F64", "F32", "F16", "BF16")

_DTYPES = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}


class Stored(Protocol):
    """Tensors of a checkpoint.

    Attributes:
        path: The file; of shards, the name of their index without `.index.json`.
        shapes: By name.
        dtypes: By name, as safetensors spells them.
    """

    path: Path
    shapes: dict[str, Shape]
    dtypes: dict[str, str]

    def read(self, name: str) -> Tensor:
        """A tensor in single precision."""
        ...


@contextlib.contextmanager
def open_stored(path: Path) -> Iterator[Stored]:
    """The tensors of a safetensors file, of its shards, or of a pickled checkpoint.

    Args:
        path: The file. If it is sharded, the name of the index without `.index.json`.

    Raises:
        CheckpointError: A file is damaged, is something else, or holds no tensors but other things.
    """
    if path.suffix in PICKLES and path.is_file() and not _is_safetensors(path):
        yield _Pickled(path)
    else:
        with _Safetensors(path) as stored:
            yield stored


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
        raise CheckpointError(f"{path.parent} lacks {listed(missing)}, which {index.name} names; download it again")
    return [path.with_name(name) for name in names]


def listed(names: list[str]) -> str:
    """Some names for a message."""
    shown = ", ".join(names[:8])
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"


def _is_safetensors(path: Path) -> bool:
    """Whether a file with the name of a pickle is of the other kind: the length of a header, then the header."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{" and not is_archive(path)


class _Safetensors:
    """Tensors of one or several safetensors files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.shapes: dict[str, Shape] = {}
        self.dtypes: dict[str, str] = {}
        self._files: dict[str, tuple[Any, Path]] = {}
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> _Safetensors:
        try:
            for path in weight_files(self.path):
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


class _Pickled:
    """Tensors of a pickled checkpoint. They stay in the file until they are read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        content = load_pickled(path)
        self._tensors = _tensors(content)
        if not self._tensors:
            raise CheckpointError(f"{path} {_without_tensors(content)}")
        self.shapes = {name: tuple(tensor.shape) for name, tensor in self._tensors.items()}
        self.dtypes = {
            name: _DTYPES.get(tensor.dtype, str(tensor.dtype).removeprefix("torch.")) for name, tensor in self._tensors.items()
        }

    def read(self, name: str) -> Tensor:
        return self._tensors[name].to(torch.float32).contiguous()


def _tensors(content: Any) -> dict[str, Tensor]:
    """Tensors by name, with dots for levels: those of the `state_dict`, or else of the whole."""
    if not isinstance(content, Mapping):
        return {}
    inner = content.get("state_dict")
    content = inner if isinstance(inner, Mapping) else content
    found: dict[str, Tensor] = {}
    # A dictionary may occur in itself or in many others, so each is read once.
    waiting: list[tuple[str, Mapping[Any, Any]]] = [("", content)]
    seen = {id(content)}
    while waiting:
        where, part = waiting.pop()
        for name, value in part.items():
            if not isinstance(name, str):
                continue
            if isinstance(value, Tensor):
                found[where + name] = value.detach()
            elif isinstance(value, Mapping) and id(value) not in seen:
                seen.add(id(value))
                waiting.append((f"{where}{name}.", value))
    return found


def _without_tensors(content: Any) -> str:
    """What is wrong with something saved that has no tensors where a model has them."""
    if not isinstance(content, Mapping):
        return (
            f"holds one {type(content).__name__.lower()}, expected a state_dict, from names to tensors; is it the right file?"
        )
    names = sorted(name[:LONGEST_NAME] if isinstance(name, str) else f"a {type(name).__name__}" for name in content)
    if any(name.startswith(("optimizer", "param_groups")) for name in names):
        return f"holds the state of an optimizer alone ({listed(names)}); expected the weights, which are in another file"
    return f"holds no tensors ({listed(names) or 'it is empty'}); expected a state_dict: is it the right file?"
