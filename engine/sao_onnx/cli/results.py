"""What happens to a finished clip: its files are checked before the work, and written and reported after it."""

from __future__ import annotations

import contextlib
import json
import stat
import sys
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import typer

from sao_onnx.cli.streams import writing_stdout
from sao_onnx.cli.wording import ranges

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from sao_onnx.clip import Clip
    from sao_onnx.engine import Engine

USAGE_ERROR: Any = typer.BadParameter.__bases__[0].__bases__[0]
"""Base of what typer raises when a command line is wrong. It has no name of its own in typer."""


def require_writable(output: Path, bits: int | None, force: bool, *, sidecar: bool) -> None:
    """Refuse an output before the work, not after it.

    Args:
        output: The audio file.
        bits: Of a sample.
        force: Replace files that exist.
        sidecar: A JSON file is written beside it.
    """
    from sao_onnx.audio.formats import AUDIO_FORMATS, audio_format
    from sao_onnx.errors import AudioFileError, RequestError
    from sao_onnx.writing import require_free

    if _is_device(output):
        raise RequestError(f"{output} is a device or a pipe, expected a file; gen -o - writes a WAV to stdout")
    if output.suffix.lower() not in AUDIO_FORMATS:
        raise RequestError(f"{output} has no known suffix; known: {', '.join(AUDIO_FORMATS)}")
    try:
        audio_format(output.suffix, bits)
    except AudioFileError as error:  # Here nothing is wrong with a file, but with what was asked for.
        raise RequestError(str(error)) from error
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


def save(clip: Clip, path: Path, *, force: bool, bits: int | None, metadata: bool, sidecar: bool) -> None:
    """Write a clip and, if asked for, its provenance as a JSON file beside it."""
    clip.save(path, overwrite=force, bits=bits, metadata=metadata)
    if sidecar:
        save_sidecar(clip, path, force=force, bits=bits)


def save_sidecar(clip: Clip, path: Path, *, force: bool, bits: int | None) -> None:
    """Write the provenance of a clip as a JSON file beside it."""
    from sao_onnx.writing import write_whole

    text = f"{replace(clip.provenance, bits=bits).to_json()}\n"
    write_whole(path.with_suffix(".json"), text.encode(), overwrite=force)


def describe(clip: Clip, engine: Engine, path: Path) -> dict[str, Any]:
    """All that `--json` prints of a clip."""
    from sao_onnx.runtime.process_memory import peak_memory

    return {
        "file": str(path),
        "prompt": clip.provenance.prompt,
        "seed": clip.seed,
        "seconds": clip.seconds,
        "sample_rate": clip.sample_rate,
        "channels": len(clip.samples),
        "model": engine.manifest.model.name,
        "precision": engine.precision,
        "threads": engine.threads,
        "tuning": asdict(engine.tuning),
        "timings": vars(clip.timings) | {"total": clip.timings.total},
        "peak_memory": peak_memory(),
    }


def describe_error(error: Exception) -> dict[str, Any]:
    """All that `--json` prints of an error: {"error": {"type": "RequestError", "message": "seed is -1, expected ..."}}.

    The type is the name of the error's class; "UsageError" for all that typer finds wrong with a command line.
    """
    if isinstance(error, USAGE_ERROR):
        return {"error": {"type": "UsageError", "message": ranges(error.format_message())}}
    return {"error": {"type": type(error).__name__, "message": str(error)}}


def print_result(about: Mapping[str, Any], *, as_json: bool) -> None:
    """Print where a clip is, or with `--json` all that is known of it."""
    print(json.dumps(about) if as_json else about["file"], flush=True)


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
