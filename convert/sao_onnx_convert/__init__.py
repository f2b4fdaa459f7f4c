"""Converts Stable Audio Open checkpoints to bundles that `sao_onnx` runs. Needs the extra `sao-onnx[convert]`."""

# First, because it decides how the libraries that all others use are imported.
from sao_onnx_convert import libraries  # noqa: F401

# isort: split

from sao_onnx_convert.convert import Progress, convert
from sao_onnx_convert.errors import (
    CheckpointError,
    CheckpointNotFoundError,
    ConversionError,
    DiskSpaceError,
    DownloadError,
    ParityError,
    TargetExistsError,
    UnsupportedModelError,
)

__all__ = [
    "CheckpointError",
    "CheckpointNotFoundError",
    "ConversionError",
    "DiskSpaceError",
    "DownloadError",
    "ParityError",
    "Progress",
    "TargetExistsError",
    "UnsupportedModelError",
    "convert",
]
