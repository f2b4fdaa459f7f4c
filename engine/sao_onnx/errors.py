"""Errors and warnings of sao-onnx.

Every error derives from `SaoOnnxError` and from the built-in exception that fits. Its message says what was found, what was
expected, and what the user can do about it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


class SaoOnnxError(Exception):
    """Base of every error that sao-onnx raises on purpose."""


class RequestError(SaoOnnxError, ValueError):
    """A request or a setting has a value outside its range."""


class BundleError(SaoOnnxError, ValueError):
    """A bundle is incomplete, damaged, or of a format version that this release does not read."""


class BundleNotFoundError(BundleError, FileNotFoundError):
    """There is no bundle at the given place."""


class FileError(SaoOnnxError, OSError):
    """A file cannot be read or written."""


class AudioFileError(FileError):
    """An audio file cannot be read or written."""


class OutputExistsError(FileError, FileExistsError):
    """A file to be written exists, and overwriting was not asked for."""


class ProviderError(SaoOnnxError, ValueError):
    """ONNX Runtime does not accept an execution provider or a session option."""


class NumericalError(SaoOnnxError, ArithmeticError):
    """A network returned NaN or infinite values."""


class GraphError(SaoOnnxError, RuntimeError):
    """A graph failed while it ran, or returned what it should not."""


class ForkedError(SaoOnnxError, RuntimeError):
    """Work was begun in the process that this one was forked from, and cannot go on in this one."""


class NotEnoughMemoryError(SaoOnnxError, MemoryError):
    """A clip or a graph needs more memory than there is."""


class ClusterError(SaoOnnxError, RuntimeError):
    """The machines of a cluster cannot be reached, or cannot make a clip."""


class MissingRuntimeError(SaoOnnxError, ImportError):
    """ONNX Runtime is not installed, or cannot be loaded."""


class MissingExtraError(SaoOnnxError, ImportError):
    """A package that sao-onnx does not install by default is needed.

    Args:
        what: The task, for example "drawing".
        package: The package that the task needs.
        extra: The extra of sao-onnx that installs the package.
    """

    def __init__(self, what: str, package: str, extra: str) -> None:
        # All of them: Python makes an error that was pickled again of what its base was given.
        super().__init__(what, package, extra)

    def __str__(self) -> str:
        what, package, extra = self.args
        return f"{what} needs {package}; install it with: pip install 'sao-onnx[{extra}]'"


class MissingResamplerError(SaoOnnxError, ImportError):
    """Audio of another sample rate needs soxr, which was left out, or has no builds for this machine (Windows on Arm)."""


class SaoOnnxWarning(UserWarning):
    """Base of every warning that sao-onnx issues."""


@contextlib.contextmanager
def memory_errors() -> Iterator[None]:
    """Make one error of every sign of too little memory: threads that cannot start, libraries that cannot be loaded.

    Raises:
        NotEnoughMemoryError: There is too little memory.
    """
    try:
        yield
    except SaoOnnxError:
        raise
    except (MemoryError, ImportError, RuntimeError) as error:
        others = isinstance(error, RuntimeError) and "can't start new thread" not in str(error)
        if others or isinstance(error, ModuleNotFoundError):
            raise
        reason = f" ({error})" if str(error) else ""
        raise NotEnoughMemoryError(
            f"there is too little memory{reason}; close other programs, or ask for a shorter clip"
        ) from error
