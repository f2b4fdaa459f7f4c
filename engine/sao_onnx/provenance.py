"""What a clip was made with, so that it can be made again: kept with the clip, in the tags of its file, and read from there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sao_onnx.audio.files import read_tags
from sao_onnx.bundle.manifest import Precision
from sao_onnx.bundle.schema import SchemaError, read
from sao_onnx.errors import AudioFileError
from sao_onnx.runtime.tuning import Tuning

FORMAT = 1
TAG = "comment"
"""The tag that every format has and every player leaves alone."""


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
    format: int = FORMAT

    def to_json(self) -> str:
        """One line of JSON, in ASCII, which the tags of every format can hold."""
        return json.dumps({"sao-onnx": asdict(self)})

    def tags(self) -> dict[str, str]:
        """The tags of an audio file."""
        titled = {"title": self.prompt} if self.prompt else {}  # No format holds an empty title.
        return titled | {"software": f"sao-onnx {self.version}, {self.model}", TAG: self.to_json()}


def read_provenance(path: str | Path) -> Provenance:
    """The record that an audio file carries.

    Raises:
        AudioFileError: The file cannot be read, carries none, or one that this release does not understand.
    """
    try:
        data = json.loads(read_tags(path).get(TAG, ""))
    except ValueError:
        data = None
    if not isinstance(data, Mapping) or not isinstance(found := data.get("sao-onnx"), Mapping):
        raise AudioFileError(f"{path} does not say how it was made; only files that sao-onnx wrote with their metadata do")
    # Before its fields, which another format may have others of.
    version = found.get("format", FORMAT)
    if version != FORMAT or isinstance(version, bool):
        raise AudioFileError(f"{path} carries a record of format {version!r}, expected {FORMAT}; use the release that made it")
    try:
        return read(Provenance, found)
    except SchemaError as error:
        raise AudioFileError(f"{path} says how it was made in a way that this release does not read: {error}") from error
