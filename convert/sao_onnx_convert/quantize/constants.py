"""Numbers that all 8-bit graphs have in common."""

from __future__ import annotations

from sao_onnx_convert.export.functions import ZERO_POINT

__all__ = ["INT8_MAX", "MIN_SCALE", "UINT8_MAX", "ZERO_POINT"]

UINT8_MAX = 255
"""The largest quantized activation; activations are unsigned."""

INT8_MAX = 127
"""The largest quantized weight. The least is −127, so that no processor overflows (`recipe` says where −128 would)."""

MIN_SCALE = 1e-9
"""The least scale, for channels and rows that are always zero: a scale of zero could not be divided by."""
