"""Weights in small files of half precision, which can be kept in a repository and copied while training runs.

A state dictionary called NAME is `NAME.json`, which lists its files, and those files: `NAME-1-1.safetensors`,
`NAME-1-2.safetensors` and so on, with `.xz` behind it if they are compressed. The list is replaced last, so that at any moment
there is a whole dictionary, the old one or the new one.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor

MAX_BYTES = 12_000_000
"""Of one file before it is compressed, unless a single tensor is larger."""

COMPRESSED = ".xz"

_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 3, "lc": 0, "lp": 1, "pb": 1}]
"""The two bytes of each number are modelled apart: smaller than with the defaults, and in a third of the time."""


def write(folder: Path, name: str, state: Mapping[str, Tensor], compress: bool = False) -> None:
    """Write a state dictionary, in the place of one of the same name.

    Args:
        folder: Is made where it is missing.
        name: Of the dictionary.
        state: Tensors by name. Those of floating-point numbers are rounded to half precision, others stay as they are.
        compress: An eighth smaller; takes a second for 5 MB.
    """
    folder.mkdir(parents=True, exist_ok=True)
    before = _files(folder, name)
    edition = _edition(before[0]) + 1 if before else 1
    files = []
    for number, shard in enumerate(_shards(state), start=1):
        content = save(shard)
        files.append(f"{name}-{edition}-{number}.safetensors{COMPRESSED if compress else ''}")
        (folder / files[-1]).write_bytes(lzma.compress(content, filters=_FILTERS) if compress else content)
    _replace(folder / f"{name}.json", json.dumps({"files": files}) + "\n")
    for file in before:
        (folder / file).unlink(missing_ok=True)


def read(folder: Path, name: str) -> dict[str, Tensor]:
    """A state dictionary that `write` wrote: floating-point numbers in single precision, others as they were.

    Raises:
        FileNotFoundError: There is none of this name, or one of its files is missing.
    """
    files = _files(folder, name)
    if not files:
        raise FileNotFoundError(f"no weights called {name} in {folder}; they begin with a file {name}.json")
    state: dict[str, Tensor] = {}
    for file in files:
        content = (folder / file).read_bytes()
        state |= load(lzma.decompress(content) if file.endswith(COMPRESSED) else content)
    return {key: value.float() if value.is_floating_point() else value for key, value in state.items()}


def present(folder: Path, name: str) -> bool:
    """Whether a state dictionary of this name is there, with all its files."""
    files = _files(folder, name)
    return bool(files) and all((folder / file).is_file() for file in files)


def remove(folder: Path, name: str) -> None:
    """Remove a state dictionary, if there is one."""
    files = _files(folder, name)
    (folder / f"{name}.json").unlink(missing_ok=True)
    for file in files:
        (folder / file).unlink(missing_ok=True)


def _files(folder: Path, name: str) -> list[str]:
    """The files of a state dictionary; none if it is not there."""
    path = folder / f"{name}.json"
    if not path.is_file():
        return []
    files: list[str] = json.loads(path.read_text(encoding="utf-8"))["files"]
    return files


def _edition(file: str) -> int:
    return int(file.rsplit("-", 2)[1])


def _shards(state: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """The tensors as they are written, in as many groups as files."""
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for key, tensor in state.items():
        kept = tensor.detach().cpu()
        # A copy: the files know no tensors that share their memory.
        kept = (kept.to(torch.float16) if kept.is_floating_point() else kept).contiguous().clone()
        if shards[-1] and size + kept.nbytes > MAX_BYTES:
            shards.append({})
            size = 0
        shards[-1][key] = kept
        size += kept.nbytes
    return shards


def _replace(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".part")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
