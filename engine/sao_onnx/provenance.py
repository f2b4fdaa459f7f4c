"""What a clip was made with, so that it can be made again: kept with the clip, in its file, and read from there."""

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
class Recipe:
    """A request and what answered it.

    Attributes:
        prompt: Text.
        seed: Of the noise.
        model: Name of the model.
        fingerprint: Of its bundle.
        precision: It ran in, but for the parts that `tuning` names.
        tuning: How its parts were run.
        options: Those of `Engine.generate` that were given, but for seed and initial audio.
        init_audio: The file that was started from, by its name, if there was one; "" for audio that came from elsewhere.
        version: Release of sao-onnx.
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
        """One line of JSON, in ASCII, which every tag format takes."""
        return json.dumps({"sao-onnx": asdict(self)})

    def tags(self) -> dict[str, str]:
        """What an audio file says of it."""
        return {"title": self.prompt, "software": f"sao-onnx {self.version}, {self.model}", TAG: self.to_json()}


def recipe_of(path: str | Path) -> Recipe:
    """The recipe that an audio file carries.

    Raises:
        AudioFileError: The file cannot be read, carries none, or one that this release does not understand.
    """
    try:
        data = json.loads(read_tags(path).get(TAG, ""))
    except ValueError:
        data = None
    if not isinstance(data, Mapping) or "sao-onnx" not in data:
        raise AudioFileError(f"{path} does not say how it was made; only files that sao-onnx wrote with their metadata do")
    try:
        recipe = read(Recipe, data["sao-onnx"])
    except SchemaError as error:
        raise AudioFileError(f"{path} says how it was made in a way that this release does not read: {error}") from error
    if recipe.format != FORMAT:
        raise AudioFileError(
            f"{path} carries a recipe of format {recipe.format}, expected {FORMAT}; use the release that made it"
        )
    return recipe
