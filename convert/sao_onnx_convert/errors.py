"""What can go wrong in a conversion, as types. All are `sao_onnx.SaoOnnxError`."""

from __future__ import annotations

from sao_onnx.errors import SaoOnnxError


class ConversionError(SaoOnnxError):
    """A checkpoint could not be converted."""


class UnsupportedModelError(ConversionError, ValueError):
    """The configuration asks for something that this project does not compute."""


class CheckpointError(ConversionError, ValueError):
    """The checkpoint's files are missing, of another format, or do not match the configuration."""


class CheckpointNotFoundError(CheckpointError, FileNotFoundError):
    """There is no checkpoint at the given place, or no right to download it."""


class DownloadError(CheckpointError, OSError):
    """A file could not be brought here: the hub or the connection failed, or what arrived is damaged."""


class DiskSpaceError(ConversionError, OSError):
    """There is not enough free disk space for the download or for the bundle."""


class ParityError(ConversionError, ArithmeticError):
    """A converted graph does not compute what its torch module computes."""


class TargetExistsError(ConversionError, FileExistsError):
    """The bundle to be written exists and `force` was not given."""
