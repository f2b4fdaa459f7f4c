"""A recording made longer than the window: in windows that overlap, each of which keeps the end of what there is so far."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sao_onnx.audio.prepare import rounded_down
from sao_onnx.errors import RequestError


@dataclass(frozen=True)
class Placement:
    """Where one of the windows lies.

    Attributes:
        start: Frame of the clip where it begins.
        kept: Frames that it begins with, the last ones of what there is so far.
        added: Frames that it adds.
    """

    start: int
    kept: int
    added: int


def one_frame(rate: int) -> str:
    """Seconds of a frame as text, rounded up, so that what is printed is not too short."""
    return f"{math.ceil(1e6 / rate) / 1e6:.6f}"


def extension(length: int, added: int, window: int, rate: int) -> list[Placement]:
    """How to add frames to a recording.

    Every window but the last begins with half a window of what there is, or with all of it if that is less; the last one with
    as much as it has room for, because a longer overlap costs nothing there.

    Args:
        length: Frames of the recording.
        added: Frames to add.
        window: Frames of the model's window.
        rate: Frames in a second.

    Raises:
        RequestError: The recording is too short to be extended, or nothing is added.
    """
    if added < 1:
        raise RequestError(f"extend is shorter than one frame of audio, expected at least {one_frame(rate)} s")
    if length < rate / 10:
        raise RequestError(f"the recording is {rounded_down(length / rate)} s long; extend needs at least 0.1 s of audio")
    found = []
    while added > 0:
        kept = min(length, window // 2)
        step = min(added, window - kept)
        if step == added:
            kept = min(length, window - step)
        found.append(Placement(length - kept, kept, step))
        length += step
        added -= step
    return found
