"""Recognises files that are not what their names say: a pointer, a web page, a pickle, half a download."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from sao_onnx_convert.errors import ConversionError

LARGEST_JSON = 64 << 20
LARGEST_HEADER = 100 << 20
"""The format's own limit for the header of a safetensors file."""

DOWNLOAD = "download it again"


class JsonObject(dict[str, Any]):
    """A decoded JSON object.

    Attributes:
        repeated: Keys that occur more than once with different values; the last value counts.
    """

    repeated: tuple[str, ...] = ()


def read_json(path: Path, error: type[ConversionError]) -> Any:
    """Decode a JSON file, UTF-8 with or without a byte-order mark; objects as `JsonObject`.

    Raises:
        error: The file cannot be read, or is not JSON. The message says what it is instead, if that is known.
    """
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise error(f"{path} cannot be read as JSON: it has {path.stat().st_size} bytes, expected a file of text")
        return json.loads(path.read_bytes(), object_pairs_hook=_object)
    except (OSError, ValueError, RecursionError) as problem:
        reason = "it is nested too deeply" if isinstance(problem, RecursionError) else str(problem)
        raise error(f"{path} cannot be read as JSON: {actual_kind(path) or reason}") from problem


def _object(pairs: list[tuple[str, Any]]) -> JsonObject:
    result, repeated = JsonObject(), []
    for key, value in pairs:
        # As text, because NaN differs from itself.
        if key in result and repr(result[key]) != repr(value):
            repeated.append(key)
        result[key] = value
    result.repeated = tuple(repeated)
    return result


def explain_unreadable(path: Path, reason: str) -> str:
    """What is wrong with a file that cannot be read as safetensors, and what to do, as the end of a sentence.

    Args:
        path: The file.
        reason: What the library says. It is used where nothing better is known.
    """
    if found := actual_kind(path):
        return found
    try:
        return _damage(path) or f"{reason}; {DOWNLOAD}"
    except OSError as error:
        return str(error)


TEXTS: tuple[tuple[tuple[bytes, ...], str], ...] = (
    (
        (b"<!doctype html", b"<html", b"<head", b"<!--"),
        "it is a web page (HTML), as servers send one when a login or another address is needed; download the file itself",
    ),
    ((b"<?xml",), "it is an XML page, as servers send one with an error; download the file itself"),
)
"""What a text in lower case is, by its first bytes, and what to do."""

BINARIES: tuple[tuple[tuple[bytes, ...], str], ...] = (
    (
        (b"version https://git-lfs",),
        "it is a Git LFS pointer, which stands for the file; run `git lfs pull` in the clone, or download the file itself",
    ),
    (
        (b"PK\x03\x04", b"\x80\x02}", b"\x80\x02c", b"\x80\x04\x95", b"\x80\x02\x8a"),
        "it is a pickled checkpoint or an archive under another name; give what torch.save wrote a name that ends in .ckpt",
    ),
    ((b"GGUF",), "it is a GGUF file; expected the original weights as safetensors"),
    ((b"\x1f\x8b", b"\xfd7zXZ", b"7z\xbc\xaf", b"\x28\xb5\x2f\xfd"), "it is a compressed file; unpack it"),
)
"""What a file is, by its first bytes, and what to do."""


def actual_kind(path: Path) -> str | None:
    """What a file is instead of what it should be, and what to do, as a clause; None where nothing is known."""
    try:
        with path.open("rb") as file:
            start = file.read(4096)
    except OSError:
        return None
    if not start:
        return f"it is empty; {DOWNLOAD}"
    if not start.strip(b"\0"):
        return f"it begins with {len(start)} zero bytes, as an interrupted download leaves it; {DOWNLOAD}"
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    found = [description for prefixes, description in TEXTS if text.startswith(prefixes)]
    found += [description for prefixes, description in BINARIES if start.startswith(prefixes)]
    return found[0] if found else None


def _damage(path: Path) -> str | None:
    """How the header and the size of a safetensors file contradict each other; None where they do not."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        if len(start) < 8:
            return f"it has only {size} bytes; {DOWNLOAD}"
        if start.lstrip().startswith(b"{"):
            return "it is text (JSON), not weights; download the file itself"
        length = struct.unpack("<Q", start)[0]
        if length > LARGEST_HEADER:
            return f"it does not begin with the header of a safetensors file; {DOWNLOAD}"
        if 8 + length > size:
            return f"it is cut short: found {size} bytes, its header alone has {8 + length}; {DOWNLOAD}"
        data = _data_bytes(file.read(length))
    if data is None:
        return f"its header is damaged; {DOWNLOAD}"
    expected = 8 + length + data
    return f"it is cut short: found {size} bytes, expected {expected}; {DOWNLOAD}" if expected > size else None


def _data_bytes(header: bytes) -> int | None:
    """Bytes of the tensors behind the header of a safetensors file; None where the header is damaged."""
    try:
        entries = json.loads(header)
        return max((entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__"), default=0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        return None
