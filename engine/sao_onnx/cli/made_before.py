"""Whether a file is the clip of a request already, and if not, what is different."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sao_onnx.option import shown

if TYPE_CHECKING:
    from sao_onnx.engine import Engine
    from sao_onnx.provenance import Provenance
    from sao_onnx.request import Request


def difference(path: Path, request: Request, engine: Engine, metadata: bool) -> str:
    """Why a file is not the clip of a request to an engine.

    Args:
        path: Of the file.
        request: Where it leaves the seed open, any will do.
        engine: Would make the clip.
        metadata: Whether the clip would say how it was made. If not, any audio without a record is taken for it: nobody can
            tell, and a list that was interrupted shall go on.

    Returns:
        What the file does, for people, as in "was made by another model"; "" if it is the clip.
    """
    from sao_onnx.audio.files import read_tags
    from sao_onnx.errors import AudioFileError
    from sao_onnx.provenance import read_provenance

    if not path.is_file():
        return "is no clip"
    try:
        read_tags(path)
    except AudioFileError:
        return "is no clip"
    try:
        found = read_provenance(path)
    except AudioFileError:
        return "does not say how it was made" if metadata else ""
    return _other(found, request, engine)


def _other(found: Provenance, request: Request, engine: Engine) -> str:
    """What differs between a record and a request to an engine, or ""."""
    from sao_onnx.errors import RequestError
    from sao_onnx.planning.loops import with_tempo
    from sao_onnx.request import Request, initial_name, recorded_options

    if found.fingerprint != engine.bundle.fingerprint:
        return f"was made by another model, or another conversion of it: {found.model}"
    try:
        # By way of a request, which knows the names and types of former releases.
        options = recorded_options(Request.from_options(found.prompt, found.options))
    except RequestError as error:
        return f"says how it was made in a way that this release does not read: {error}"
    there = {name: getattr(found, name) for name in ("prompt", "seed", "init_audio", "init_sha256", "precision")} | options
    wanted = {
        "prompt": with_tempo(request.prompt, request.bpm),
        "seed": found.seed if request.seed is None else request.seed,
        "init_audio": initial_name(request),
        "init_sha256": _digest_now(found, request),
        "precision": engine.precision,
        **recorded_options(request),
    }
    for name in wanted | there:
        if wanted.get(name) != there.get(name):
            return f"was made of another request ({name}: {_said(there.get(name))}, now {_said(wanted.get(name))})"
    return ""


def _digest_now(found: Provenance, request: Request) -> str | None:
    """Digest of the initial audio of a request; None where there is none, or where the record is from before it was kept."""
    from sao_onnx.audio.files import file_digest
    from sao_onnx.request import initial_file

    file = initial_file(request)
    return None if file is None or found.init_sha256 is None else file_digest(file)


def _said(value: Any) -> str:
    return "not given" if value is None else shown(value)
