"""What a command prints as its result, and the files of `gen`: checked before the work, and written after it."""

from __future__ import annotations

import contextlib
import json
import stat
import sys
from typing import TYPE_CHECKING, Any, TextIO

import typer

from sao_onnx.cli.streams import writing_stdout

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from sao_onnx.clip import Clip

USAGE_ERROR: Any = typer.BadParameter.__bases__[0].__bases__[0]
"""Base of what typer raises when a command line is wrong. It has no name of its own in typer."""

WrongUsageError: Any = typer.BadParameter.__bases__[0]
"""An error of a command line whose message stands alone; it takes the message and the context. It has no name either."""


def require_writable(output: Path, bits: int | None, force: bool, *, sidecar: bool) -> None:
    """Refuse an output before the work, not after it.

    Args:
        output: The audio file.
        bits: Of a sample.
        force: Replace files that exist.
        sidecar: A JSON file is written beside it.
    """
    from sao_onnx.errors import RequestError
    from sao_onnx.outcome import require_format
    from sao_onnx.writing import require_free

    if _is_device(output):
        raise RequestError(f"{output} is a device or a pipe, expected a file; gen -o - writes a WAV to stdout")
    require_format(output, bits)
    require_free(output, force)
    if sidecar:
        require_free(output.with_suffix(".json"), force)


def _is_device(path: Path) -> bool:
    """Whether something is at a path that is neither a file nor a folder."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def save_sidecar(clip: Clip, path: Path, *, force: bool, bits: int | None) -> None:
    """Write the provenance of a clip as a JSON file beside it."""
    from dataclasses import replace

    from sao_onnx.outcome import sidecar
    from sao_onnx.writing import write_whole

    write_whole(path.with_suffix(".json"), sidecar(replace(clip.provenance, bits=bits)), overwrite=force)


def describe_error(error: Exception) -> dict[str, Any]:
    """All that `--json` prints of an error: {"error": {"type": "RequestError", "message": "seed is -1, expected ..."}}.

    The type is the name of the error's class; "UsageError" for all that typer finds wrong with a command line.
    """
    if isinstance(error, USAGE_ERROR):
        return {"error": {"type": "UsageError", "message": error.format_message()}}
    return {"error": {"type": type(error).__name__, "message": str(error)}}


def print_result(about: Mapping[str, Any], *, as_json: bool, to: TextIO | None = None) -> None:
    """Print where a clip is, or with `--json` all that is known of it; by default to stdout."""
    print(json.dumps(about) if as_json else about["file"], flush=True, file=to)


def print_bytes(data: bytes) -> None:
    """Write a file to stdout."""
    with writing_stdout():
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def print_error(error: Exception) -> None:
    """Print an error as a result, for `--json`; on stderr, if stdout is what failed."""
    from sao_onnx.errors import FileError

    try:
        print(json.dumps(describe_error(error)), flush=True)
    except FileError:
        with contextlib.suppress(OSError):
            typer.echo(f"error: {error}", err=True)
