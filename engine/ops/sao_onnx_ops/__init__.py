"""Native operators for sao-onnx.

The engine finds and uses them by itself. This package only says where the library is.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

__all__ = ["library"]


def library() -> Path:
    """The compiled library, which `onnxruntime.SessionOptions.register_custom_ops_library` takes.

    Raises:
        FileNotFoundError: This package was installed without it.
        ValueError: It is not what was compiled. Half a library would end the process.
    """
    folder = Path(__file__).parent
    for found in folder.glob("sao_onnx_ops.*"):
        if found.suffix in (".so", ".dylib", ".dll"):
            digest = folder / "library.sha256"
            if digest.exists() and digest.read_text(encoding="ascii").strip() != hashlib.sha256(found.read_bytes()).hexdigest():
                raise ValueError(f"{found} is damaged; install sao-onnx-ops again")
            return found
    raise FileNotFoundError(f"{folder} has no compiled library; install sao-onnx-ops again")
