"""Whether a file is the clip of a request already, and if not, what is different."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from sao_onnx.audio.files import file_digest, read_tags
from sao_onnx.audio.initial import require_whole
from sao_onnx.engine import Engine
from sao_onnx.errors import AudioFileError, RequestError
from sao_onnx.option import shown
from sao_onnx.planning.loops import with_tempo
from sao_onnx.provenance import Provenance, read_provenance
from sao_onnx.request import Request, initial_file, initial_name, recorded_options

HASH_DIGITS = 12
"""Hexadecimal digits: among a million clips, two of the same name are less likely than one in five hundred."""


def recipe_hash(request: Request, engine: Engine, bits: int | None) -> str:
    """What is the same for the same clip, and another text for every other one: model, request, initial audio and bits.

    Raises:
        AudioFileError: The initial audio cannot be read.
    """
    file = initial_file(request)
    about = {
        **_recipe(request, engine),
        "fingerprint": engine.bundle.fingerprint,
        "init_sha256": None if file is None else file_digest(file),
        "bits": bits,
    }
    return hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode()).hexdigest()[:HASH_DIGITS]


def _recipe(request: Request, engine: Engine) -> dict[str, Any]:
    """All that a record says of the clip of a request, but for the model and the digest of initial audio."""
    return {
        "prompt": with_tempo(request.prompt, request.bpm),
        "seed": request.seed,
        "init_audio": initial_name(request),
        "precision": engine.precision,
        **recorded_options(request),
    }


def difference(path: Path, request: Request, engine: Engine, bits: int | None, metadata: bool) -> str:
    """Why a file is not the clip of a request to an engine.

    Args:
        path: Of the file.
        request: Where it leaves the seed open, any will do.
        engine: Would make the clip.
        bits: Of a sample of the clip; None for the default of its format.
        metadata: Whether the clip would say how it was made. If not, any audio without a record is taken for it: nobody can
            tell, and a list that was interrupted shall go on.

    Returns:
        What the file does, for people, as in "was made by another model"; "" if it is the clip.
    """
    if problem := _no_clip(path):
        return problem
    try:
        found = read_provenance(path)
    except AudioFileError:
        return "does not say how it was made" if metadata else ""
    if not metadata:
        return "says how it was made, which --no-metadata leaves out"
    if found.bits != bits:
        return f"was written with {_bits(found.bits)}, now {_bits(bits)}"
    return _other(found, request, engine)


def _no_clip(path: Path) -> str:
    """Why a file is no whole clip, or ""."""
    try:
        read_tags(path)
    except AudioFileError:
        return "is no clip"
    try:
        require_whole(path)
    except AudioFileError:
        return "is damaged or cut off"
    return ""


def _other(found: Provenance, request: Request, engine: Engine) -> str:
    """What differs between a record and a request to an engine, or ""."""
    if found.fingerprint != engine.bundle.fingerprint:
        return f"was made by another model, or another conversion of it: {found.model}"
    try:
        # By way of a request, which knows the names and types of former releases.
        options = recorded_options(Request.from_options(found.prompt, found.options))
    except RequestError as error:
        return f"says how it was made in a way that this release does not read: {error}"
    there = {name: getattr(found, name) for name in ("prompt", "seed", "init_audio", "init_sha256", "precision")} | options
    wanted = {**_recipe(request, engine), "init_sha256": _digest_now(found, request)}
    if request.seed is None:
        wanted["seed"] = found.seed
    for name in wanted | there:
        if wanted.get(name) != there.get(name):
            return f"was made of another request ({name}: {_said(there.get(name))}, now {_said(wanted.get(name))})"
    return ""


def _digest_now(found: Provenance, request: Request) -> str | None:
    """Digest of the initial audio of a request; None where there is none, or where the record is from before it was kept."""
    file = initial_file(request)
    return None if file is None or found.init_sha256 is None else file_digest(file)


def _bits(bits: int | None) -> str:
    return "the format's bits" if bits is None else f"{bits} bits"


def _said(value: Any) -> str:
    return "not given" if value is None else shown(value)
