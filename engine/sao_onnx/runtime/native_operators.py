"""The library of native operators, where the package `sao-onnx-ops` is installed.

Graphs call functions of the domain `sao_onnx`, which ONNX Runtime replaces by their nodes. Where this library is registered,
its operators run instead. They compute the same, in fewer passes over the values. Nothing depends on them.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from sao_onnx.bundle.bundle import Bundle
from sao_onnx.forks import Lock

logger = logging.getLogger(__name__)

VARIABLE = "SAO_ONNX_OPS"
"""Environment variable: "off" leaves the operators unused; the name of kernels, such as "portable", asks for none faster."""

VERSION = 1
"""Version of the operators that graphs call."""


PORTABLE = "portable"
"""The kernels that run everywhere. ONNX Runtime's stock nodes are faster."""


KERNELS = (PORTABLE, "neon", "neon-dot", "avx2", "avx-vnni", "avx512-vbmi")
"""All kernels that there are, each for some processors."""

MOST_READ = 16_000_000
"""Bytes of a graph that are searched. Its weights are in another file."""

FUNCTIONS = (
    b"LookUpBytes",
    b"LookUpSteps",
    b"ConvolveBytes",
    b"MultiplyBytes",
    b"ResidualUnit",
    b"QuantizeRows",
    b"QuantizeGatedRows",
)
"""Names of the operators, as graphs have them."""


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
        return f"not used: {self.reason}" if self.library is None else self.kernels


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
        return NativeOperators(None, reason=f"{VARIABLE} is {wanted!r}, expected off or one of {', '.join(KERNELS)}")
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
                f"sao-onnx-ops has operators of version {version}, expected {VERSION}; install the release that belongs to it"
            )
            return NativeOperators(None, reason=reason)
        kernels = functions.sao_onnx_ops_check()
        if wanted:
            kernels = functions.sao_onnx_ops_use(wanted.encode())
    except (OSError, AttributeError, ValueError) as error:
        # Of another system, incomplete, or of another package of this name.
        logger.info("native operators cannot be used: %s", error)
        return NativeOperators(None, reason=f"the library cannot be used: {error}")
    name = kernels.decode()
    if name == PORTABLE and wanted != PORTABLE:
        return NativeOperators(None, reason="they have no fast kernels for this processor")
    logger.debug("native operators: %s", name)
    return NativeOperators(library, name)


def calls_operators(bundle: Bundle) -> bool:
    """Whether a graph of a bundle in 8 bits calls functions that native operators stand for. Older bundles have none."""
    for graph in bundle.manifest.graphs:
        if graph.precision == "int8":
            with bundle.path(graph.path).open("rb") as stream:
                nodes = stream.read(MOST_READ)
            if any(name in nodes for name in FUNCTIONS):
                return True
    return False
