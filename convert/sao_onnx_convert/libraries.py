"""Imports the converter's libraries so that they send nothing and leave no files behind. Comes before any other module.

- huggingface_hub tells the hub with each download what the caller's libraries are, and lets them report events, unless
  `HF_HUB_DISABLE_TELEMETRY` is set when it is imported; transformers and optimum take that setting from it.
- torch makes a temporary folder for compiled kernels when its compiler is imported. Nothing is compiled here.
- ONNX Runtime is imported by `sao_onnx.runtime.onnx_runtime`, before optimum would do it.
"""

from __future__ import annotations

import tempfile

from sao_onnx.runtime import onnx_runtime  # noqa: F401
from sao_onnx.runtime.environment import variables_unless_set

with (
    tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as _folder,
    variables_unless_set({"HF_HUB_DISABLE_TELEMETRY": "1", "TORCHINDUCTOR_CACHE_DIR": _folder}),
):
    import huggingface_hub.constants  # noqa: F401
    import torch._dynamo

    # This module makes that folder, too, and torch's exporter would import it later.
    import torch._inductor.compiler_bisector  # noqa: F401
