"""What can go wrong, as types: each error is also the built-in that fits, and says how to mend it."""

from __future__ import annotations


class SaoOnnxError(Exception):
    """Base of every error that sao-onnx raises on purpose."""


class RequestError(SaoOnnxError, ValueError):
    """A request asks for something outside the allowed range."""


class BundleError(SaoOnnxError, ValueError):
    """A bundle is missing a part, damaged, or of a version that this release does not read."""


class BundleNotFoundError(BundleError, FileNotFoundError):
    """There is no bundle at the given place."""


class AudioFileError(SaoOnnxError, OSError):
    """An audio file cannot be read or written."""


class OutputExistsError(SaoOnnxError, FileExistsError):
    """A file to be written exists and overwriting was not asked for."""


class ProviderError(SaoOnnxError, ValueError):
    """No execution provider, thread count or session option of the request can be used here."""


class NumericalError(SaoOnnxError, ArithmeticError):
    """A network returned values that are not finite."""


class NotEnoughMemoryError(SaoOnnxError, MemoryError):
    """A clip would take more memory than there is."""


class MissingRuntimeError(SaoOnnxError, ImportError):
    """ONNX Runtime is not there or cannot be loaded."""


class MissingExtraError(SaoOnnxError, ImportError):
    """A package that is not installed by default is needed.

    Args:
        what: What was asked for.
        package: What it needs.
        extra: The extra of sao-onnx that installs it.
    """

    def __init__(self, what: str, package: str, extra: str) -> None:
        super().__init__(f"{what} needs {package}; install it with: pip install 'sao-onnx[{extra}]'")


class SaoOnnxWarning(UserWarning):
    """Base of every warning that sao-onnx issues."""
