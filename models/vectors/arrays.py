"""Arrays of float32 as JSON: shape, how many values are skipped, and bytes in base64."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np

from sao_onnx.arrays import Array


def to_json(array: Array, stride: int = 1) -> dict[str, Any]:
    """Every `stride`-th value of an array in C order, little-endian."""
    kept = np.ascontiguousarray(array, "<f4").reshape(-1)[::stride]
    return {"shape": list(array.shape), "stride": stride, "float32": base64.b64encode(kept.tobytes()).decode()}


def kept_values(written: Mapping[str, Any]) -> Array:
    """The values that `to_json` kept."""
    return np.frombuffer(base64.b64decode(written["float32"]), "<f4")
