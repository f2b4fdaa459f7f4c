"""A finished clip: which files it can become, and what is told of it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import PurePath
from typing import Any

from sao_onnx.audio.formats import AUDIO_FORMATS, audio_format
from sao_onnx.clip import Clip
from sao_onnx.engine import Engine
from sao_onnx.errors import AudioFileError, RequestError
from sao_onnx.provenance import Provenance
from sao_onnx.runtime.process_memory import peak_memory


def require_format(name: PurePath, bits: int | None) -> None:
    """Refuse a file whose name says no format, or one that cannot have so many bits a sample.

    Raises:
        RequestError: It is so.
    """
    if name.suffix.lower() not in AUDIO_FORMATS:
        raise RequestError(f"{name} has no known suffix; known: {', '.join(AUDIO_FORMATS)}")
    try:
        audio_format(name.suffix, bits)
    except AudioFileError as error:  # Here nothing is wrong with a file, but with what was asked for.
        raise RequestError(str(error)) from error


def sidecar(provenance: Provenance) -> bytes:
    """The content of the JSON file beside a clip."""
    return f"{provenance.to_json()}\n".encode()


def describe(clip: Clip, engine: Engine, file: str) -> dict[str, Any]:
    """All that is told of a clip, as plain data: where it is, what it is, and how it was made."""
    return {
        "file": file,
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
