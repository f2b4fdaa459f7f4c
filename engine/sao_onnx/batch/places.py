"""Which place a text means."""

from __future__ import annotations

import re

from sao_onnx.batch.folder import Folder
from sao_onnx.batch.place import Place
from sao_onnx.batch.storage import Storage, local_path
from sao_onnx.errors import FileError
from sao_onnx.places import expand_home, meant_address

ADDRESS = re.compile(r"[a-z][a-z0-9+.:-]*://", re.IGNORECASE)
"""The beginning of a place that is no folder, such as s3://."""


def open_place(text: str) -> Place:
    """A folder, or a place that fsspec reaches: s3://bucket/clips, memory://clips.

    Raises:
        MissingExtraError: It needs fsspec, which is not installed.
        FileError: fsspec does not know such places, or lacks what it needs for them; or an address lacks its slashes.
    """
    if not ADDRESS.match(text):
        if address := meant_address(text):
            raise FileError(f"{text} looks like an address without its slashes; did you mean {address}? A folder is ./{text}")
        return Folder(expand_home(text))
    local = local_path(text)
    return Storage(text) if local is None else Folder(local)
