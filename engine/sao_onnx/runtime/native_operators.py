"""The library of native operators, where the package `sao-onnx-ops` is installed.

Graphs call functions of the domain `sao_onnx`, which ONNX Runtime replaces by their nodes. Where this library is registered,
its operators run instead. They compute the same, in fewer passes over the values. Nothing depends on them.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import io
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from sao_onnx.bundle.bundle import Bundle
from sao_onnx.errors import SaoOnnxWarning
from sao_onnx.forks import Lock
from sao_onnx.runtime.onnx_bytes import domain_version
from sao_onnx.warn import warn

logger = logging.getLogger(__name__)

VARIABLE = "SAO_ONNX_OPS"
"""Environment variable: "off" leaves the operators unused; the name of kernels, such as "portable", asks for none faster."""

DOMAIN = "sao_onnx"
"""The domain of the operators."""

VERSION = 1
"""Version of the domain: of what its operators compute."""

PORTABLE = "portable"
"""The kernels that run everywhere. ONNX Runtime's stock nodes are faster."""


KERNELS = (PORTABLE, "neon", "neon-dot", "avx2", "avx-vnni", "avx512-vbmi")
"""All kernels that there are, each for some processors."""


@dataclass(frozen=True)
class NativeOperators:
    """Whether there are native operators, and which.

    Attributes:
        library: What ONNX Runtime registers; None where stock nodes run.
        kernels: The instructions that the operators use, such as "avx2"; "" without a library.
        reason: Why there is no library; "" with one.
    """

    library: Path | None
    kernels: str = ""
    reason: str = ""

    def __str__(self) -> str:
        if self.library is None:
            return f"not used: {self.reason}"
        return f"{PORTABLE}, which is for tests: a clip takes many minutes" if self.kernels == PORTABLE else self.kernels


_finding = Lock()


@functools.cache
def native_operators() -> NativeOperators:
    """The native operators of this process, found once, by one thread: kernels change while they are compared.

    They are compared with their portable forms first, which takes some microseconds. Whatever is wrong, stock nodes run.
    """
    wanted = os.environ.get(VARIABLE, "").strip().lower()
    if wanted in ("off", "0", "no", "false"):
        return NativeOperators(None, reason=f"{VARIABLE} is {wanted}")
    if wanted in ("on", "1", "yes", "true"):
        wanted = ""
    if wanted and wanted not in KERNELS:
        reason = f"{VARIABLE} is {wanted!r}, expected off or one of {', '.join(KERNELS)}"
        warn(f"{reason}; native operators are not used", SaoOnnxWarning)
        return NativeOperators(None, reason=reason)
    with _finding:
        return _checked(wanted)


@functools.cache
def _checked(wanted: str) -> NativeOperators:
    """The operators of the package, with kernels no faster than the wanted ones."""
    try:
        package = importlib.import_module("sao_onnx_ops")
    except ImportError:
        return NativeOperators(None, reason="sao-onnx-ops is not installed")
    try:
        library = Path(package.library())
        functions = ctypes.CDLL(str(library))
        functions.sao_onnx_ops_check.restype = functions.sao_onnx_ops_use.restype = ctypes.c_char_p
        version = int(functions.sao_onnx_ops_version())
        if version != VERSION:
            reason = (
                f"sao-onnx-ops has operators of version {version}, expected {VERSION}; install the release of the package that "
                "belongs to this one of sao-onnx"
            )
            return NativeOperators(None, reason=reason)
        kernels = functions.sao_onnx_ops_check()
        if wanted:
            kernels = functions.sao_onnx_ops_use(wanted.encode())
    except (OSError, AttributeError, ValueError) as error:
        # Of another system, incomplete, or of another package of this name.
        logger.info("native operators cannot be used: %s", error)
        told = str(error)
        remedy = "" if "install" in told else "; install sao-onnx-ops again"
        return NativeOperators(None, reason=f"the library cannot be used: {told}{remedy}")
    name = kernels.decode()
    if name == PORTABLE and wanted != PORTABLE:
        whose = f"no kernels like {wanted}" if wanted else "no fast kernels"
        return NativeOperators(None, reason=f"they have {whose} for this processor")
    logger.debug("native operators: %s", name)
    return NativeOperators(library, name)


def called_version(graph: Path | bytes) -> int | None:
    """Version of the operators that a graph calls, or None.

    ONNX Runtime itself takes operators of whatever version for a graph, so the engine compares it with `VERSION`.

    Args:
        graph: A file, or its content.

    Raises:
        OSError: The file cannot be read.
    """
    with io.BytesIO(graph) if isinstance(graph, bytes) else graph.open("rb") as stream:
        return domain_version(stream, DOMAIN)


def operators_of(bundle: Bundle) -> str:
    """Which native operators the graphs of a bundle in 8 bits use, or why none, in words. Older bundles call none."""
    operators, graphs = native_operators(), bundle.manifest.graphs
    called = any(graph.precision == "int8" and called_version(bundle.path(graph.path)) == VERSION for graph in graphs)
    return f"{operators}" if operators.library is None or called else f"{operators}, but this bundle does not call them"
