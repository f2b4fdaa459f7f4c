"""What a clip's tags say of how it was made, under what the command line says: the request and the engine."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from sao_onnx.cli.terminal import note
from sao_onnx.option import shown
from sao_onnx.written_options import read_options

if TYPE_CHECKING:
    from sao_onnx.bundle.manifest import Precision
    from sao_onnx.engine import Engine
    from sao_onnx.provenance import Provenance
    from sao_onnx.request import Request


LONGEST_NAME = 255
"""Bytes of the name of a file, on every file system."""


def recorded_request(prompt: str | None, written: dict[str, Any], recorded: Provenance | None, file: Path | None) -> Request:
    """The request of the command line; what it leaves open is that of the file's tags."""
    from sao_onnx.request import Request, random_seed, require_words

    options = read_options(written)
    base: dict[str, Any] = {}
    if recorded is not None:
        base = _recorded_options(recorded, file)
        if "init_audio" not in options and recorded.init_audio is not None:
            base["init_audio"] = _recorded_audio(recorded, file)
    typed = prompt is not None
    request = Request.from_options(
        prompt if prompt is not None else recorded.prompt if recorded is not None else "",
        {"seed": random_seed(), **base, **options},
    )
    if typed:  # A clip of no words is made again as it was.
        require_words(request)
    return request


def recorded_bits(bits: int | None, recorded: Provenance | None, output: str | None) -> int | None:
    """Bits of a sample of the command line; what it leaves open is that of the record, if the output can have them."""
    from sao_onnx.audio.formats import AUDIO_FORMATS

    if bits is not None or recorded is None:
        return bits
    suffix = Path(output or "").suffix.lower() or ".wav"
    return recorded.bits if suffix in AUDIO_FORMATS and recorded.bits in AUDIO_FORMATS[suffix].codecs else None


def _recorded_options(recorded: Provenance, file: Path | None) -> dict[str, Any]:
    """The options of a record by their present names, if a request can have them."""
    from sao_onnx.errors import RequestError
    from sao_onnx.request import Request

    try:
        return Request.from_options(recorded.prompt, {"seed": recorded.seed, **recorded.options}).given()
    except RequestError as error:
        found = f"{file} says how it was made in a way that this release does not read"
        raise RequestError(f"{found}: {error}") from error


def _recorded_audio(recorded: Provenance, file: Path | None) -> Path:
    """The initial audio that the tags of a file name: the very file of that name, here or beside the clip.

    Tags come from anybody, so they cannot say where to look, and what is read is said.
    """
    from sao_onnx.audio.files import file_digest
    from sao_onnx.errors import AudioFileError

    name = recorded.init_audio
    if not name:
        found = "the clip was started from audio or latents that were no file"
        raise typer.BadParameter(f"{found}; name the audio with --init-audio")
    if Path(name).name != name or not name.isprintable() or len(os.fsencode(name)) > LONGEST_NAME:
        raise AudioFileError(f"the clip was started from {shown(name)}, which is no name of a file; name it with --init-audio")
    places = [place for place in (Path(name), *([] if file is None else [file.parent / name])) if place.is_file()]
    for place in places:
        if recorded.init_sha256 is None or recorded.init_sha256 == file_digest(place):
            note(f"starting from {place}")
            return place
    if places:
        raise AudioFileError(
            f"the clip was started from {name}, and {places[-1]} is not what it was then; "
            "name the file with --init-audio, if its sound is the same"
        )
    raise AudioFileError(f"the clip was started from {name}, which is not here; name it with --init-audio")


def recorded_engine(
    model: str | None, recorded: Provenance | None, precision: str | None, threads: int | None, *, keep_loaded: bool
) -> Engine:
    """The engine; it runs as the recorded one did.

    For one clip, letting go of each stage after use costs no time and saves most of the memory.
    """
    import sao_onnx
    from sao_onnx.bundle.names import find
    from sao_onnx.errors import RequestError

    if recorded is None or precision is not None:
        engine = sao_onnx.load(find(model), precision=_precision(precision), threads=threads, keep_loaded=keep_loaded)
    else:
        engine = _as_recorded(recorded, find(model), threads, keep_loaded=keep_loaded)
    if recorded is not None and engine.bundle.fingerprint != recorded.fingerprint:
        raise RequestError(
            f"the clip was made with {recorded.model} ({recorded.fingerprint}), and this is {engine.manifest.model.name} "
            f"({engine.bundle.fingerprint}); name that bundle with --model"
        )
    return engine


def _as_recorded(recorded: Provenance, model: Path, threads: int | None, *, keep_loaded: bool) -> Engine:
    """The engine with what changes samples from the record. What changes the speed alone is this machine's own.

    Tags come from anybody, so of the entries for ONNX Runtime only those are taken that `tune` writes.
    """
    import sao_onnx
    from sao_onnx.bundle.bundle import open_bundle
    from sao_onnx.runtime.processor import available_processors, usable_threads
    from sao_onnx.runtime.tuning import TRIED_OPTIONS, default_tuning

    count = available_processors() if threads is None else usable_threads(threads)
    used = default_tuning(open_bundle(model), recorded.precision, count)
    entries = {key: value for key, value in recorded.tuning.options.items() if key in TRIED_OPTIONS and value in ("0", "1")}
    tuning = replace(used, dit=recorded.tuning.dit, decoder=recorded.tuning.decoder, options=entries)
    return sao_onnx.load(model, precision=recorded.precision, tuned=tuning, keep_loaded=keep_loaded)


def _precision(written: str | None) -> Precision | None:
    """A precision by its name. What is none goes on to `load`, which says what the bundle holds."""
    from typing import cast

    return cast("Precision | None", written)
