"""Finds a model by what the user wrote: a folder if there is one of that name, otherwise a repository."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sao_onnx_convert.errors import CheckpointError, CheckpointNotFoundError
from sao_onnx_convert.source.address import parse_address
from sao_onnx_convert.source.file_names import PICKLES
from sao_onnx_convert.source.hub import Repository, endpoint
from sao_onnx_convert.source.source import Folder, Source


def locate(place: str | Path, landmarks: Sequence[str]) -> Source:
    """Find a model, and list its files. Nothing is downloaded yet.

    Args:
        place: Folder, file in a folder, `owner/name`, `owner/name@revision`, or the address of a repository or of a file in it.
        landmarks: Files of which at least one must be in the download cache, if the hub cannot be asked.

    Raises:
        CheckpointNotFoundError: There is no such folder or repository, or no right to read it.
        CheckpointError: The place is a file of another kind.
        DownloadError: The hub cannot be asked, and nothing is in the cache.
    """
    if not str(place).strip():
        raise CheckpointNotFoundError("expected a folder or a repository: the name is empty")
    try:
        path = Path(place).expanduser()
        folder, exists = path.is_dir(), path.exists()
    except (OSError, RuntimeError) as error:
        raise CheckpointNotFoundError(f"{place} cannot be read: {error}") from error
    if folder:
        return Folder(path)
    if exists and path.suffix in (".safetensors", ".json", *PICKLES):
        return Folder(path.parent, file=path.name)
    if exists:
        raise CheckpointError(
            f"{path} is a file that holds no weights; expected a .safetensors or .ckpt file, or the folder that holds one"
        )
    try:
        address = parse_address(str(place), endpoint())
    except ValueError as error:
        raise CheckpointNotFoundError(f"{place} {error}") from error
    return Repository.open(address, landmarks)
