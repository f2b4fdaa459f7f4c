"""A recording made longer than the window: in windows that overlap, each of which keeps the end of what there is so far."""

from __future__ import annotations

from dataclasses import dataclass

from sao_onnx.errors import RequestError

LONGEST = 3600.0
"""Seconds that can be added at once."""


@dataclass(frozen=True)
class Overlap:
    """Where one of the windows lies.

    Attributes:
        start: Frame of the clip where it begins.
        overlap: Frames that it begins with, the last ones of what there is so far.
        added: Frames that it adds.
    """

    start: int
    overlap: int
    added: int


def extension(length: int, added: int, window: int, rate: int) -> list[Overlap]:
    """How to add frames to a recording.

    Every window but the last begins with half a window of what there is, or with all of it if that is less; the last one with
    as much as it has room for, because context costs nothing there.

    Args:
        length: Frames of the recording.
        added: Frames to add.
        window: Frames of the model's window.
        rate: Frames in a second.

    Raises:
        RequestError: The recording is too short to be gone on from, or `added` is not in range.
    """
    if not 0 < added <= LONGEST * rate:
        raise RequestError(f"extend is {added / rate:g}, expected more than 0 and at most {LONGEST:g} seconds")
    if length < rate / 10:
        raise RequestError(f"the recording is {length / rate:.3f} s long; a tenth of a second is the least to go on from")
    found = []
    while added > 0:
        overlap = min(length, window // 2)
        step = min(added, window - overlap)
        if step == added:
            overlap = min(length, window - step)
        found.append(Overlap(length - overlap, overlap, step))
        length += step
        added -= step
    return found
