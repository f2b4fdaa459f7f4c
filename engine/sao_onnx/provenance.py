"""What a clip was made with, so that it can be made again: kept with the clip, in the tags of its file, and read from there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PureWindowsPath
from typing import Any

from sao_onnx.audio.files import read_tags
from sao_onnx.audio.tags.texts import LIMIT
from sao_onnx.bundle.manifest import Precision
from sao_onnx.bundle.schema import SchemaError, read
from sao_onnx.errors import AudioFileError
from sao_onnx.option import shown
from sao_onnx.reading import parse_json, read_small
from sao_onnx.request import kinds
from sao_onnx.runtime.tuning import Tuning

FORMAT = 2
"""Format 1 knew neither `bits` nor `init_sha256`, and `init_audio` was a path."""

TAG = "comment"
"""The tag that every format has and every player leaves alone."""

MARK = "sao-onnx"
"""The key of the record in its object."""

LONGEST_TITLE = 200
"""Characters of a prompt that players are given as the title. The record holds all of it."""

BITS = (16, 24, 32)

FORMER_OPTIONS = ("trim",)
"""Names that options had in former releases, which a request still takes."""


@dataclass(frozen=True)
class Provenance:
    """A request and what answered it.

    Attributes:
        prompt: Text.
        seed: Of the noise.
        model: Name of the model.
        fingerprint: Of its bundle.
        precision: It ran in, except for the parts that `tuning` names.
        tuning: How its parts were run.
        version: Release of sao-onnx.
        options: Options of the request that differ from their defaults, by name, without seed and initial audio.
        init_audio: Name of the file that was started from; "" for audio that was no file; None where nothing was started from.
        init_sha256: Digest of that file.
        bits: Of a sample of the file that the record is in; None for the default of its format.
        format: Version of this record.
    """

    prompt: str
    seed: int
    model: str
    fingerprint: str
    precision: Precision
    tuning: Tuning
    version: str
    options: dict[str, Any] = field(default_factory=dict)
    init_audio: str | None = None
    init_sha256: str | None = None
    bits: int | None = None
    format: int = FORMAT

    def to_json(self) -> str:
        """One line of JSON. Half characters, as which Python keeps file names that are not UTF-8, become question marks."""
        return json.dumps({MARK: asdict(self)}, ensure_ascii=False).encode("utf-8", "replace").decode()

    def tags(self) -> dict[str, str]:
        """The tags of an audio file. The last is the longest one: some programs read none after it."""
        software = f"sao-onnx {self.version}, {self.model}"
        return {"title": _title(self.prompt), "software": _title(software), TAG: self.to_json()}


def read_provenance(path: str | Path) -> Provenance:
    """The record that an audio file carries, or the JSON file beside it.

    Its options are known ones, but their values are not yet checked: a `Request` does that.

    Raises:
        AudioFileError: The file cannot be read, carries none, or one that this release does not understand.
    """
    found = _record(path)
    # Before its fields, which another format may have others of.
    version = found.get("format", FORMAT)
    if version not in range(1, FORMAT + 1) or isinstance(version, bool):
        raise AudioFileError(
            f"{path} carries a record of format {shown(version)}, expected at most {FORMAT}; use the release that made it"
        )
    try:
        record = read(Provenance, found)
        _check(record)
    except SchemaError as error:
        raise AudioFileError(f"{path} says how it was made in a way that this release does not read: {error}") from error
    if version == 1 and record.init_audio is not None:
        # Paths of Windows are split at both kinds of stroke.
        record = replace(record, init_audio=PureWindowsPath(record.init_audio).name)
    return record


def _record(path: str | Path) -> Mapping[str, Any]:
    """The object with the record, of an audio file or of the file beside it."""
    if Path(path).suffix.lower() == ".json":
        try:
            text = read_small(Path(path), LIMIT, error=AudioFileError).decode("utf-8", "replace")
        except FileNotFoundError as error:
            raise AudioFileError(f"{path} cannot be read: {error.strerror}") from error
    else:
        text = read_tags(path).get(TAG, "")
    problem = ""
    try:
        data = parse_json(text)
    except ValueError as error:
        data, problem = None, f": {error}" if MARK in text[:50] else ""
    if not isinstance(data, Mapping) or not isinstance(found := data.get(MARK), Mapping):
        raise AudioFileError(
            f"{path} does not say how it was made; only files that sao-onnx wrote with their metadata do{problem}"
        )
    return found


def _check(record: Provenance) -> None:
    """Refuse what no release writes: tags come from anybody."""
    for name in ("model", "fingerprint", "version"):
        text = getattr(record, name)
        if len(text) > LONGEST_TITLE or not text.isprintable():
            raise SchemaError(name, f"found {shown(text)}, expected a short text of printable characters")
    if record.bits not in (None, *BITS):
        raise SchemaError("bits", f"found {shown(record.bits)}, expected {', '.join(map(str, BITS))} or null")
    for name in record.options:
        if name not in FORMER_OPTIONS and (name not in kinds() or not kinds()[name].option.in_tags):
            raise SchemaError("options", f"found {shown(name)}, which is no option that a record has")


def _title(text: str) -> str:
    """A text as one short line."""
    line = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return line if len(line) <= LONGEST_TITLE else f"{line[: LONGEST_TITLE - 1]}…"
