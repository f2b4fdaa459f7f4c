"""Stretches of time that are kept while the rest is made anew, as weights: 1 where kept, 0 where not, ramps between."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sao_onnx.arrays import Array
from sao_onnx.errors import RequestError
from sao_onnx.option import TOLERANCE, Region

LATENT_RAMP = 4
"""Latents over which what is kept fades into what is sampled, inside the kept region."""

AUDIO_RAMP = 0.03
"""Seconds of the cross-fade between the original and what was decoded, inside the kept region."""


def kept(keep: Sequence[Region] | None, regenerate: Sequence[Region] | None, seconds: float) -> tuple[Region, ...] | None:
    """The regions to keep, sorted and joined, of a clip of so many seconds; None if neither was asked for.

    Raises:
        RequestError: Both are given, a region ends after the clip, or nothing is left to make.
    """
    if keep is None and regenerate is None:
        return None
    if keep is not None and regenerate is not None:
        raise RequestError("keep and regenerate exclude each other; each says what the other leaves")
    given = keep if keep is not None else regenerate or ()
    joined: list[Region] = []
    for start, end in sorted(_inside(region, seconds) for region in given):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    if regenerate is not None:
        edges = [0.0, *(edge for region in joined for edge in region), seconds]
        joined = [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if b > a]
    if joined and joined[0][0] <= 0 and joined[0][1] >= seconds:
        raise RequestError("everything would be kept; leave something to make")
    return tuple(joined)


def _inside(region: Region, seconds: float) -> Region:
    start, end = region
    if end > seconds + TOLERANCE:
        raise RequestError(f"a region ends at {end:g} s, and the clip at {seconds:.3f} s")
    return start, min(end, seconds)


def weights(regions: Sequence[Region], count: int, rate: float, ramp: float, seconds: float) -> Array:
    """How much of each frame or latent is kept.

    Args:
        regions: To keep.
        count: Frames or latents.
        rate: Of them in a second.
        ramp: Seconds in which the weight falls to 0 at the edges of a region, inside it; none at the ends of the clip.
        seconds: Length of the clip. What lies after it is kept as its last moment is.

    Returns:
        float32 [count].
    """
    times = (np.arange(count) + 0.5) / rate
    result = np.zeros(count)
    for start, end in regions:
        before = np.full(count, np.inf) if start <= 0 else times - start
        after = np.full(count, np.inf) if end >= seconds else end - times
        result = np.maximum(result, np.clip(np.minimum(before, after) / ramp, 0, 1))
    return result.astype(np.float32)
