"""Native operators for sao-onnx.

The engine finds and uses them by itself. This package only says where the library is.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["library"]


def library() -> Path:
    """The compiled library, which `onnxruntime.SessionOptions.register_custom_ops_library` takes.

    Raises:
        FileNotFoundError: This package was installed without it.
    """
    for found in Path(__file__).parent.glob("sao_onnx_ops.*"):
        if found.suffix in (".so", ".dylib", ".dll"):
            return found
    raise FileNotFoundError(f"{Path(__file__).parent} has no compiled library; install sao-onnx-ops again")
