"""Imports ONNX Runtime with its telemetry off. No other module imports it.

ONNX Runtime's builds for Linux and macOS send telemetry since version 1.29. The import alone writes a device id and a queue of
events into the user's cache folder, and a thread sends them some seconds later, so it is too late to turn telemetry off after
the import. ONNX Runtime reads the variable `ORT_DISABLE_TELEMETRY` once, during the import, for the whole process:
https://github.com/microsoft/onnxruntime/blob/main/docs/Privacy.md
"""

from __future__ import annotations

import os
import sys

from sao_onnx.errors import MissingRuntimeError, NotEnoughMemoryError
from sao_onnx.runtime.environment import variables_unless_set

VARIABLE = "ORT_DISABLE_TELEMETRY"

_DISABLING = ("1", "true", "yes", "on", "y")
"""Values with which ONNX Runtime turns telemetry off. Any other value turns it on."""

_value = os.environ.get(VARIABLE, "").strip()
_too_late = "onnxruntime" in sys.modules

try:
    with variables_unless_set({VARIABLE: "1"}):
        import onnxruntime as ort
except ImportError as problem:
    if "bad_alloc" in str(problem) or "allocate memory" in str(problem):
        raise NotEnoughMemoryError(
            f"there is too little memory to load ONNX Runtime ({problem}); close other programs"
        ) from problem
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
    # Windows ignores the variable, and this call turns the events off. Where the application imported ONNX Runtime before
    # this module, the call turns off most events from now on.
    ort.disable_telemetry_events()


def telemetry() -> str:
    """State of ONNX Runtime's telemetry in this process: "off", or "not turned off: " and the reason, with how to mend it."""
    if _wanted:
        return f"not turned off: {VARIABLE} is {_value!r}; unset it, or set it to 1"
    if _too_late and not _value:
        return f"not turned off: onnxruntime was imported before sao_onnx; set {VARIABLE}=1 before it is imported"
    return "off"
