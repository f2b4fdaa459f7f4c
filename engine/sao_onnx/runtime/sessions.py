"""ONNX Runtime sessions: the only place that knows its options."""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sao_onnx.bundle.manifest import Graph
from sao_onnx.errors import (
    BundleError,
    NotEnoughMemoryError,
    NumericalError,
    ProviderError,
    SaoOnnxWarning,
)
from sao_onnx.runtime import products
from sao_onnx.runtime.onnx_runtime import ort, telemetry

CPU = "CPUExecutionProvider"

# It moves channels to the last axis around int8 convolutions, where quantizing channel by channel is ten times slower.
DISABLED_OPTIMIZERS = ("NhwcTransformer",)

ENTRIES = {
    # A pool that spins after a run would take the processor from the decoder's tiles, which run on threads of their own.
    "session.force_spinning_stop": "1",
    # Arm's KleidiAI kernels, which SME switches on, were reported to keep gigabytes of buffers. `tune` tries them.
    "mlas.disable_kleidiai": "1",
    # bfloat16 products would be faster where the processor has them, but single precision means the reference's numbers.
    "mlas.enable_gemm_fastmath_arm64_bfloat16": "0",
}
"""Session configuration entries. Spinning between the operators of a run stays on, ONNX Runtime's default: they are short."""

EXACT_PRODUCTS = {"session.x64quantprecision": "1"}
"""Makes 8-bit weights unsigned when a graph is loaded: `w + 128` with a zero point of 128 is the same integer, and the kernels
for them do not overflow. Set only where those for signed weights do (`products_overflow`): with VNNI both are exact, and
unsigned ones take up to eight times as long."""

WIDENED = ("encoder",)
"""Roles of graphs whose 8-bit weights are widened when they are loaded."""

_DTYPES = {"tensor(float)": "float32", "tensor(int64)": "int64"}


def runtime() -> dict[str, Any]:
    """What this ONNX Runtime says of itself: its version, how it was built, its execution providers; and its telemetry."""
    return {
        "onnxruntime": ort.__version__,
        "build": ort.get_build_info(),
        "providers": ort.get_available_providers(),
        "telemetry": telemetry(),
    }


@functools.cache
def products_overflow() -> bool:
    """Whether ONNX Runtime's products of unsigned and signed 8-bit numbers overflow on this processor, found by trying."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    (found,) = ort.InferenceSession(products.product(), options, providers=[CPU]).run(None, products.extreme())
    return not products.is_exact(found)


def default_threads() -> int:
    """The processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


class SessionFactory:
    """Opens sessions that share one set of options.

    Args:
        threads: Threads of one run; by default the processors that this process may use.
        providers: Execution providers, the preferred first. Those that this ONNX Runtime lacks are left out with a warning;
            the CPU provider always follows.
        options: Session configuration entries of ONNX Runtime (`session.*`, `mlas.*`), over `ENTRIES` and, where 8-bit
            products overflow, `EXACT_PRODUCTS`.

    Raises:
        ProviderError: `threads` is less than 1.
    """

    def __init__(
        self, threads: int | None = None, providers: Sequence[str] | None = None, options: Mapping[str, str] | None = None
    ) -> None:
        if threads is not None and threads < 1:
            raise ProviderError(f"threads is {threads}, expected at least 1 (or None for every processor)")
        self.threads = threads or default_threads()
        self.providers = _available(providers or (CPU,))
        self._entries = ENTRIES | (EXACT_PRODUCTS if products_overflow() else {}) | dict(options or {})

    def session(self, path: Path, *, tiled: bool = False, widened: bool = False) -> ort.InferenceSession:
        """Open a graph.

        Args:
            path: The `.onnx` file.
            tiled: The graph runs on many small tiles at the same time, one thread each.
            widened: Its 8-bit weights are widened before anything is multiplied, as the encoder's are: nothing overflows, and
                ONNX Runtime would make unsigned what it then cannot widen.

        Raises:
            BundleError: ONNX Runtime cannot load it.
            NotEnoughMemoryError: It does not fit.
            ProviderError: It refuses a session option.
        """
        inexact = {key: value for key, value in self._entries.items() if key not in EXACT_PRODUCTS}
        try:
            return self._open(path, inexact if widened else self._entries, tiled)
        except BundleError:
            if widened or inexact == self._entries:
                raise
            # Products that share weights or zero points, as those of early bundles do, cannot be made unsigned.
            session = self._open(path, inexact, tiled)
        warnings.warn(
            f"{path.parent}: 8-bit products overflow on this processor, and this bundle is too old for what prevents it: clips "
            "sound worse than they should. Convert the model again; or, where the converter is installed (pip install "
            "'.[convert]' in a clone of sao-onnx), run `python -m sao_onnx_convert.unshare` on the bundle",
            SaoOnnxWarning,
            stacklevel=2,
        )
        return session

    def _open(self, path: Path, entries: Mapping[str, str], tiled: bool) -> ort.InferenceSession:
        options = ort.SessionOptions()
        # Always explicit: left to itself, ONNX Runtime pins threads to processors that a container may not own.
        options.intra_op_num_threads = 1 if tiled else self.threads
        # The graphs are chains; parallelism between nodes would only add a second thread pool.
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        # Without an arena, every tensor is mapped and unmapped anew; a planned pattern is kept beside what the arena holds.
        # Peak of the int8 DiT at full size: 421 MB like this, 445 with a pattern, 480 to 540 without an arena, at equal speed.
        options.enable_mem_pattern = False
        # Errors come as exceptions as well; the log would say them twice.
        options.log_severity_level = 4
        try:
            for key, value in entries.items():
                options.add_session_config_entry(key, value)
        except Exception as error:  # ONNX Runtime's own exceptions share no public base class.
            raise ProviderError(f"ONNX Runtime refuses the session options {entries}: {error}") from error
        try:
            return ort.InferenceSession(
                path, options, providers=list(self.providers), disabled_optimizers=list(DISABLED_OPTIMIZERS)
            )
        except Exception as error:
            if _out_of_memory(error):
                raise NotEnoughMemoryError(f"there is not enough memory to load {path}; close other programs") from error
            raise BundleError(f"ONNX Runtime {ort.__version__} cannot load {path}: {error}") from error


def _out_of_memory(error: Exception) -> bool:
    """Whether ONNX Runtime failed for want of memory, which only its words tell."""
    return "bad_alloc" in str(error) or "Failed to allocate memory" in str(error)


def _available(wanted: Sequence[str]) -> tuple[str, ...]:
    present = ort.get_available_providers()
    usable = [name for name in wanted if name in present]
    if missing := [name for name in wanted if name not in present]:
        warnings.warn(
            f"this ONNX Runtime has no {', '.join(missing)} (it has {', '.join(present)}); using {', '.join(usable) or CPU}",
            SaoOnnxWarning,
            stacklevel=4,
        )
    return tuple(dict.fromkeys([*usable, CPU]))


class GraphSession:
    """A graph ready to run: tensors bound by name, its signature checked against the manifest.

    Attributes:
        inputs: Names of its inputs, in the manifest's order.

    Args:
        factory: Opens the session.
        path: The `.onnx` file.
        graph: What the manifest says of it.
        tiled: It runs on many small tiles at the same time.

    Raises:
        BundleError: The file cannot be loaded, or does not have the inputs and outputs that the manifest promises.
    """

    def __init__(self, factory: SessionFactory, path: Path, graph: Graph, *, tiled: bool = False) -> None:
        self._session = factory.session(path, tiled=tiled, widened=graph.role in WIDENED)
        self._role = graph.role
        self.inputs = tuple(tensor.name for tensor in graph.inputs)
        self._outputs = [tensor.name for tensor in graph.outputs]
        promised = {tensor.name: tensor.dtype for tensor in (*graph.inputs, *graph.outputs)}
        present = {node.name: _DTYPES.get(node.type) for node in (*self._session.get_inputs(), *self._session.get_outputs())}
        if promised != present:
            raise BundleError(
                f"{path} has inputs and outputs {present}, the manifest promises {promised}; convert the model again"
            )

    def run(self, **inputs: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], ...]:
        """Run the graph on named inputs; outputs in the manifest's order. Safe to call from several threads at once.

        Raises:
            NumericalError: An output is not finite.
            NotEnoughMemoryError: It needs more than there is.
        """
        try:
            outputs = tuple(self._session.run(self._outputs, inputs))
        except Exception as error:
            if _out_of_memory(error):
                raise NotEnoughMemoryError(f"there is not enough memory to run {self._role}; close other programs") from error
            raise
        for name, output in zip(self._outputs, outputs, strict=True):
            if not np.isfinite(output).all():
                raise NumericalError(
                    f"{self._role} returned NaN or infinite values in {name}; check the bundle with "
                    "`sao-onnx verify`, or try other settings"
                )
        return outputs
