"""ONNX Runtime, imported with its telemetry off: the only place that imports it.

ONNX Runtime's builds for Linux and macOS have telemetry since 1.29. The import alone writes a device id and a queue of events
into the user's cache folder, and a thread sends them some seconds later; turning telemetry off after the import is too late.
The variable `ORT_DISABLE_TELEMETRY` is read once, during the import, and what it says then holds for the whole process:
https://github.com/microsoft/onnxruntime/blob/main/docs/Privacy.md
"""

from __future__ import annotations

import os
import sys

from sao_onnx.errors import MissingRuntimeError
from sao_onnx.runtime.environment import variables_unless_set

VARIABLE = "ORT_DISABLE_TELEMETRY"

_DISABLING = ("1", "true", "yes", "on", "y")
"""What ONNX Runtime takes for a yes; anything else asks for telemetry."""

_value = os.environ.get(VARIABLE, "").strip()
_too_late = "onnxruntime" in sys.modules

try:
    with variables_unless_set({VARIABLE: "1"}):
        import onnxruntime as ort
except ImportError as problem:
    if sys.maxsize < 2**32:
        remedy = (
            "there are no builds of it for 32-bit systems such as this one; on a Raspberry Pi, use the 64-bit Raspberry Pi OS"
        )
    else:
        remedy = "install it with: pip install onnxruntime"
    raise MissingRuntimeError(f"ONNX Runtime cannot be loaded ({problem}); {remedy}") from problem

__all__ = ["VARIABLE", "ort", "telemetry"]

_wanted = _value != "" and _value.lower() not in _DISABLING

if not _wanted:
    # On Windows, where the variable means nothing, this is what turns the events off. Where the application imported ONNX
    # Runtime first, it turns off most of those that follow.
    ort.disable_telemetry_events()


def telemetry() -> str:
    """Whether ONNX Runtime's telemetry is "off" in this process, or "not turned off" and why."""
    if _wanted:
        return f"not turned off: {VARIABLE} is {_value!r}; unset it, or set it to 1"
    if _too_late and not _value:
        return f"not turned off: onnxruntime was imported before sao_onnx; set {VARIABLE}=1 before it is imported"
    return "off"
