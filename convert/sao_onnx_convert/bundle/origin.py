"""Where the weights of a bundle came from: for its manifest, and for the person who converts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from sao_onnx.bundle.manifest import Base, Model
from sao_onnx_convert.source.file_names import WEIGHTS
from sao_onnx_convert.source.files import CheckpointFiles
from sao_onnx_convert.source.selection import Base as GivenBase
from sao_onnx_convert.source.selection import Selection
from sao_onnx_convert.source.weights import Reading


def describe_origin(selection: Selection, borrowed: tuple[str, ...]) -> Model:
    """The manifest's entry for a checkpoint.

    Args:
        selection: What was converted.
        borrowed: Parts of the model that came from the base.
    """
    source, base = selection.source, None
    if selection.base is not None and borrowed:
        other = selection.base.source
        base = Base(other.origin, other.revision, _weights(selection.base.files), borrowed)
    return Model(source.name, source.origin, source.revision, _weights(selection.files), base)


def _weights(files: CheckpointFiles) -> str | None:
    path = PurePosixPath(files.weights.path)
    return None if path.name == WEIGHTS else path.name


def reading_notes(reading: Reading, base: GivenBase | None, ema: bool) -> Iterator[str]:
    """Lines about what was taken of a checkpoint, where there was a choice.

    Args:
        reading: What was read.
        base: The model that was given for missing parts.
        ema: Whether averaged weights were wanted.
    """
    if reading.averaged:
        yield f"averaged weights (EMA) are taken of the {' and the '.join(reading.averaged)}; --no-ema takes the others"
    if base is not None and reading.borrowed:
        yield f"the {' and the '.join(reading.borrowed)} {_are(reading.borrowed)} of {base.source.title}"
    elif base is not None:
        yield f"the checkpoint is whole, so nothing is taken from {base.source.title}"


def _are(parts: tuple[str, ...]) -> str:
    return "are" if len(parts) > 1 or parts[0].endswith("s") else "is"
