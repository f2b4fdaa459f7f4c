"""ONNX Runtime sessions. Only this module sets ONNX Runtime's options."""

from __future__ import annotations

import functools
import json
import logging
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from sao_onnx.bundle.manifest import Graph, Role
from sao_onnx.errors import (
    BundleError,
    GraphError,
    NotEnoughMemoryError,
    NumericalError,
    ProviderError,
    SaoOnnxWarning,
)
from sao_onnx.forks import keep_after_fork
from sao_onnx.runtime import int8_matmul
from sao_onnx.runtime.native_operators import VERSION, called_version, native_operators
from sao_onnx.runtime.onnx_runtime import ort, telemetry
from sao_onnx.runtime.processor import available_processors, usable_threads
from sao_onnx.runtime.shapes import Values, frames_problem, shape_problem
from sao_onnx.warn import warn

logger = logging.getLogger(__name__)

CPU = "CPUExecutionProvider"

# It moves channels to the last axis around int8 convolutions, where quantizing channel by channel is ten times slower.
DISABLED_OPTIMIZERS = ("NhwcTransformer",)

ENTRIES = {
    # Threads of a pool that spin after a run would slow down the decoder's tiles, which run on threads of their own.
    "session.force_spinning_stop": "1",
    # Arm's KleidiAI kernels, which SME switches on, were reported to keep gigabytes of buffers. `tune` tries them.
    "mlas.disable_kleidiai": "1",
    # bfloat16 matmuls would be faster where the processor has them, but single precision must give the reference's numbers.
    "mlas.enable_gemm_fastmath_arm64_bfloat16": "0",
}
"""Session configuration entries of every session. Threads still spin between the operators of a run, as is ONNX Runtime's
default: the operators are short."""

EXACT_INT8_MATMUL = {"session.x64quantprecision": "1"}
"""Session configuration entry that makes 8-bit weights unsigned when a graph is loaded.

`w + 128` with a zero point of 128 is the same integer, and the kernels for unsigned weights do not overflow. The entry is set
only where those for signed weights overflow (`int8_matmul_overflows`): on processors with VNNI both are exact, and unsigned
weights take up to eight times as long.
"""

WEIGHT_ONLY_ROLES: tuple[Role, ...] = ("encoder",)
"""Roles of graphs whose weights are stored in 8 bits, and dequantized to single precision before they are used."""

CONFINING = (1, 24, 2)
"""The first release of ONNX Runtime that keeps a graph from reading what is not its own."""

_CHECK = "check the bundle with `sao-onnx verify`"

_DTYPES = {"tensor(float)": "float32", "tensor(int64)": "int64"}


def runtime() -> dict[str, Any]:
    """ONNX Runtime's version ("onnxruntime"), "build", execution "providers", and state of its "telemetry"."""
    return {
        "onnxruntime": ort.__version__,
        "build": ort.get_build_info(),
        "providers": ort.get_available_providers(),
        "telemetry": telemetry(),
    }


def confines_graphs(version: str = ort.__version__) -> bool:
    """Whether ONNX Runtime keeps a graph from reading files outside of its folder, and memory that is not its own.

    Args:
        version: Of ONNX Runtime.
    """
    numbers = re.findall(r"\d+", version)[:3]
    return tuple(map(int, numbers)) >= CONFINING


@functools.cache
def int8_matmul_overflows() -> bool:
    """Whether ONNX Runtime's matmul of unsigned activations with signed weights overflows on this processor.

    Found by running one; see `sao_onnx.runtime.int8_matmul`.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(int8_matmul.matmul_model(), options, providers=[CPU])
    (result,) = session.run(None, int8_matmul.largest_inputs())
    return not int8_matmul.is_exact(result)


class SessionFactory:
    """Opens sessions that share one set of options.

    Attributes:
        threads: Threads of one run.
        providers: Execution providers that are used, the preferred first.

    Args:
        threads: Threads of one run, at least 1, at most as many as the processors that this process may use, which is the
            default. A larger number is lowered with a warning.
        providers: Execution providers, the preferred first. Those that this ONNX Runtime lacks are left out with a warning.
            The CPU provider is always added at the end.
        options: Session configuration entries of ONNX Runtime (`session.*`, `mlas.*`). They replace those of `ENTRIES` and,
            where 8-bit matmuls overflow, of `EXACT_INT8_MATMUL`.

    Raises:
        RequestError: `threads` is less than 1.
    """

    def __init__(
        self, threads: int | None = None, providers: Sequence[str] | None = None, options: Mapping[str, str] | None = None
    ) -> None:
        self.threads = available_processors() if threads is None else usable_threads(threads)
        self.providers = _present(providers or (CPU,))
        self._entries = ENTRIES | (EXACT_INT8_MATMUL if int8_matmul_overflows() else {}) | dict(options or {})
        logger.debug("sessions with %d threads, providers %s, options %s", self.threads, self.providers, self._entries)

    def session(self, path: Path, *, tiled: bool = False, weight_only: bool = False) -> ort.InferenceSession:
        """Open a graph.

        Args:
            path: The `.onnx` file.
            tiled: Many small tiles are run at the same time. Each run then uses one thread.
            weight_only: The graph dequantizes its 8-bit weights before it uses them, as those of `WEIGHT_ONLY_ROLES` do. Then
                no matmul is in 8 bits and none can overflow, and weights that were made unsigned could not be dequantized.

        Raises:
            BundleError: ONNX Runtime cannot load the graph.
            NotEnoughMemoryError: The graph does not fit into memory.
            ProviderError: ONNX Runtime refuses a session option.
        """
        signed = {key: value for key, value in self._entries.items() if key not in EXACT_INT8_MATMUL}
        try:
            return self._open(path, signed if weight_only else self._entries, tiled)
        except BundleError as error:
            if weight_only or signed == self._entries:
                raise
            # Matmuls that share weights or zero points, as in early bundles, cannot be made unsigned.
            logger.info("%s cannot be opened with unsigned weights (%s); opened without exact 8-bit matmuls", path, error)
            session = self._open(path, signed, tiled)
        warn(
            f"{path.parent}: 8-bit matmuls overflow on this processor, and this bundle is too old for what prevents it: clips "
            "sound worse than they should. Convert the model again; or, where the converter is installed (pip install "
            "'.[convert]' in a clone of sao-onnx), run `python -m sao_onnx_convert.unshare` on the bundle",
            SaoOnnxWarning,
        )
        return session

    def own_session(self, model: bytes) -> ort.InferenceSession:
        """Open a graph that the engine wrote itself. Arguments and errors are those of `session`, but for the file."""
        return self._open(model, self._entries, tiled=False)

    def _open(self, path: Path | bytes, entries: Mapping[str, str], tiled: bool) -> ort.InferenceSession:
        native = _operators_for(path)
        try:
            return self._opened(path, entries, tiled, native)
        except (BundleError, ProviderError) as error:
            if native is None:
                raise
            # Operators take for granted what the graphs of the converter have, such as weights that are constants. And the
            # library may be one that ONNX Runtime cannot register.
            session = self._opened(path, entries, tiled, None)
            logger.info("%s; opened with stock nodes in place of native operators", error)
        return session

    def _opened(self, path: Path | bytes, entries: Mapping[str, str], tiled: bool, native: Path | None) -> ort.InferenceSession:
        named = path if isinstance(path, Path) else "a graph of the engine"
        options = ort.SessionOptions()
        # Always explicit: by default, ONNX Runtime pins threads to processors that a container may not use.
        options.intra_op_num_threads = 1 if tiled else self.threads
        # The graphs are chains of nodes: running nodes in parallel would only add a second thread pool.
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        # Without an arena, every tensor is mapped and unmapped anew; with a memory pattern, the pattern's block is kept beside
        # the arena. Peak of the int8 DiT at full size: 421 MB with an arena alone, 445 MB with a pattern as well, 480 to 540 MB
        # without an arena, all at the same speed.
        options.enable_mem_pattern = False
        # Errors are raised as exceptions; the log would repeat them.
        options.log_severity_level = 4
        try:
            for key, value in entries.items():
                options.add_session_config_entry(key, value)
            if native is not None:
                options.register_custom_ops_library(str(native))
        except Exception as error:  # ONNX Runtime's own exceptions share no public base class.
            raise ProviderError(f"ONNX Runtime refuses the session options {entries}: {error}") from error
        began = time.perf_counter()
        try:
            session = ort.InferenceSession(
                path,
                options,
                providers=list(self.providers),
                disabled_optimizers=list(DISABLED_OPTIMIZERS),
                enable_fallback=0,  # It tries a second time when a graph cannot be loaded, and prints that to stdout.
            )
        except Exception as error:
            if _is_out_of_memory(error):
                raise NotEnoughMemoryError(f"there is not enough memory to load {named}; close other programs") from error
            raise BundleError(f"ONNX Runtime {ort.__version__} cannot load {named}: {_said(error)}; {_CHECK}") from error
        keep_after_fork(session)
        logger.debug("opened %s in %.3f s", named, time.perf_counter() - began)
        return session


def run_nodes(path: Path, inputs: Mapping[str, Values]) -> list[dict[str, Any]]:
    """Run a graph once, slowly and as it is written, and say what each of its nodes took and gave.

    Args:
        path: The `.onnx` file.
        inputs: An array for each input, by name.

    Returns:
        ONNX Runtime's own record of each node, in the order of the run: its operator as "op_name", and the shapes of what it
        took and gave as "input_type_shape" and "output_type_shape", each a list of {number format: shape}.

    Raises:
        BundleError: ONNX Runtime cannot load or run the graph.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = available_processors()
    options.log_severity_level = 4
    # Otherwise nodes are joined to others, and weights are arranged anew, after which the record does not show their shape.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.disable_prepacking", "1")
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "nodes")
        try:
            session = ort.InferenceSession(path, options, providers=[CPU], enable_fallback=0)
            session.run(None, dict(inputs))
        except Exception as error:
            raise BundleError(f"ONNX Runtime {ort.__version__} cannot run {path}: {_said(error)}; {_CHECK}") from error
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return [event["args"] for event in events if event["name"].endswith("_kernel_time")]


def _operators_for(graph: Path | bytes) -> Path | None:
    """The library of native operators, unless it has none, or others, of those that a graph calls."""
    library = native_operators().library
    try:
        version = None if library is None else called_version(graph)
    except OSError:
        return None  # ONNX Runtime says what is wrong with it.
    if version not in (None, VERSION):
        logger.info("%s calls operators of version %s, not %s; stock nodes run", graph, version, VERSION)
    return library if version == VERSION else None


def _is_out_of_memory(error: Exception) -> bool:
    """Whether ONNX Runtime failed because memory ran out. Only the text of its error says so."""
    return isinstance(error, MemoryError) or "bad_alloc" in str(error) or "Failed to allocate memory" in str(error)


def _said(error: Exception) -> str:
    """What an error of ONNX Runtime says, in one line. It may quote names from the graph."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:297]}..."


def _present(wanted: Sequence[str]) -> tuple[str, ...]:
    """The wanted execution providers that this ONNX Runtime has, and the CPU provider; a warning names the others."""
    present = ort.get_available_providers()
    usable = [name for name in wanted if name in present]
    if missing := [name for name in wanted if name not in present]:
        warn(
            f"this ONNX Runtime has no {', '.join(missing)} (it has {', '.join(present)}); using {', '.join(usable) or CPU}",
            SaoOnnxWarning,
        )
    return tuple(dict.fromkeys([*usable, CPU]))


def _names_and_types(session: ort.InferenceSession, path: Path) -> dict[str, str | None]:
    """Types of the inputs and outputs of a session, by their names; None for one that no manifest has."""
    try:
        return {node.name: _DTYPES.get(node.type) for node in (*session.get_inputs(), *session.get_outputs())}
    except UnicodeDecodeError as error:
        raise BundleError(f"{path} has names that are no text; {_CHECK}") from error


class GraphSession:
    """A graph that is ready to run. Its inputs and outputs have been compared with the manifest.

    Attributes:
        inputs: Names of its inputs, in the manifest's order.

    Args:
        factory: Opens the session.
        path: The `.onnx` file.
        graph: The graph's entry in the manifest.
        tiled: Many small tiles are run at the same time. Each run then uses one thread.
        frames: Frames (the last axis) of its outputs for one of its input, where that shall be checked. Fewer may come by less
            than what one frame of the input makes (see `frames_ratio`).

    Raises:
        BundleError: The file cannot be loaded, or its inputs and outputs are not those of the manifest.
        NotEnoughMemoryError: The graph does not fit into memory.
        ProviderError: ONNX Runtime refuses a session option.
    """

    def __init__(
        self, factory: SessionFactory, path: Path, graph: Graph, *, tiled: bool = False, frames: Fraction | None = None
    ) -> None:
        self._session = factory.session(path, tiled=tiled, weight_only=graph.role in WEIGHT_ONLY_ROLES)
        self._role = graph.role
        self._graph = graph
        self._frames = frames
        self.inputs = tuple(tensor.name for tensor in graph.inputs)
        self._outputs = [tensor.name for tensor in graph.outputs]
        promised = {tensor.name: tensor.dtype for tensor in (*graph.inputs, *graph.outputs)}
        present = _names_and_types(self._session, path)
        if promised != present:
            raise BundleError(
                f"{path} has inputs and outputs {present!s:.200}, the manifest promises {promised!s:.200}; "
                "convert the model again"
            )

    def run(self, /, **inputs: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], ...]:
        """Run the graph. Safe to call from several threads at once.

        Args:
            **inputs: An array for each input, by name, of the shape and dtype that the manifest lists.

        Returns:
            The outputs in the manifest's order, of the shapes and dtypes that it lists.

        Raises:
            NumericalError: An output holds NaN or infinite values.
            NotEnoughMemoryError: The run needs more memory than there is.
            GraphError: ONNX Runtime fails, or an output has another shape.
        """
        try:
            outputs = tuple(self._session.run(self._outputs, inputs))
        except Exception as error:
            if _is_out_of_memory(error):
                raise NotEnoughMemoryError(f"there is not enough memory to run {self._role}; close other programs") from error
            raise GraphError(f"{self._role} failed while it ran: {_said(error)}; {_CHECK}") from error
        self._require_shapes(inputs, outputs)
        for name, output in zip(self._outputs, outputs, strict=True):
            if not np.isfinite(output).all():
                raise NumericalError(f"{self._role} returned NaN or infinite values in {name}; {_CHECK}, or try other settings")
        return outputs

    def _require_shapes(self, inputs: Mapping[str, Values], outputs: Sequence[Values]) -> None:
        given = [inputs[name] for name in self.inputs]
        problem = shape_problem([*self._graph.inputs, *self._graph.outputs], [*given, *outputs])
        if not problem and self._frames is not None:
            problem = frames_problem(given[0], outputs, self._frames)
        if problem:
            raise GraphError(f"{self._role}: {problem}; {_CHECK}")
