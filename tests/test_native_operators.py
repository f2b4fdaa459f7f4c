"""Native operators: the same numbers as the functions that they replace, and nothing where they cannot be used."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import io
import json
import logging
import re
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import sao_onnx
from sao_onnx.bundle.bundle import Bundle, open_bundle
from sao_onnx.errors import BundleError, SaoOnnxWarning
from sao_onnx.runtime import native_operators as native
from sao_onnx.runtime import sessions
from sao_onnx.runtime.onnx_bytes import domain_version
from sao_onnx.runtime.onnx_runtime import ort
from sao_onnx.runtime.sessions import SessionFactory

pytest.importorskip("onnx")
pytest.importorskip("torch")

import onnx
from onnx import TensorProto, helper, numpy_helper

from sao_onnx_convert import convert
from sao_onnx_convert.export.functions import (
    CONVOLVE_BYTES,
    DOMAIN,
    FUNCTIONS,
    LOOK_UP_BYTES,
    LOOK_UP_STEPS,
    MULTIPLY_BYTES,
    QUANTIZE_GATED_ROWS,
    QUANTIZE_ROWS,
    RESIDUAL_UNIT,
    VERSION,
    Function,
    add_functions,
)
from sao_onnx_convert.quantize.matmul import hadamard
from sao_onnx_convert.quantize.overflow import MAX_PAIR_SUM, pair_sums
from tests.numbered import describe_files

ROOT = Path(__file__).parent.parent
OPS = ROOT / "engine" / "ops"
COMPILER = next((name for name in ("c++", "g++", "clang++") if shutil.which(name)), None)

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="there is no C++ compiler")

Array = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Path:
    """A folder with the package as its wheel has it."""
    pytest.importorskip("hatchling")
    wheels = tmp_path_factory.mktemp("wheels")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(wheels), str(OPS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-1000:]
    (wheel,) = wheels.glob("*.whl")
    assert "-py3-none-" in wheel.name
    assert "any" not in wheel.name
    shutil.unpack_archive(wheel, wheels / "installed", "zip")
    return wheels / "installed"


@pytest.fixture
def installed(package, monkeypatch) -> Iterator[native.NativeOperators]:
    """The operators as the engine finds them where the package is installed."""
    monkeypatch.syspath_prepend(str(package))
    monkeypatch.delitem(sys.modules, "sao_onnx_ops", raising=False)
    monkeypatch.delenv(native.VARIABLE, raising=False)
    yield _found_again()
    _forget()
    monkeypatch.delitem(sys.modules, "sao_onnx_ops", raising=False)


@pytest.fixture(scope="module")
def eight_bits(checkpoint, tmp_path_factory) -> Path:
    """A bundle whose graphs call the operators."""
    target = tmp_path_factory.mktemp("converted") / "bundle"
    return convert(checkpoint, checkpoint / "t5", target, precisions=("int8",)).folder


def _forget() -> None:
    """Let the operators be found anew."""
    native.native_operators.cache_clear()
    native._checked.cache_clear()


def _found_again(monkeypatch: pytest.MonkeyPatch | None = None, wanted: str = "") -> native.NativeOperators:
    """The operators, found anew, perhaps with another value of the variable."""
    if monkeypatch is not None:
        monkeypatch.setenv(native.VARIABLE, wanted)
    _forget()
    return native.native_operators()


def _kernels(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kernels that this processor runs."""
    known = ("portable", "neon", "neon-dot", "avx2", "avx-vnni", "avx512-vbmi")
    return [name for name in known if _found_again(monkeypatch, name).kernels == name]


TYPES = {
    np.dtype(np.float32): TensorProto.FLOAT,
    np.dtype(np.uint8): TensorProto.UINT8,
    np.dtype(np.int8): TensorProto.INT8,
    np.dtype(np.int32): TensorProto.INT32,
}
CONSTANTS = {"weights", "dilated", "pointwise", "scale", "zero"}
"""Names of inputs that graphs have as constants, where the function is a convolution."""


def _model(
    function: Function, inputs: dict[str, Array], axes: dict[str, tuple[int | str, ...]], constant: bool = True
) -> bytes:
    """A graph that calls a function. Weights are constants in it, as in real graphs, unless they are asked for as inputs."""
    node = helper.make_node(function.name, list(inputs), list(function.outputs), domain=DOMAIN)
    constants: dict[str, Array] = {}
    if function in (CONVOLVE_BYTES, RESIDUAL_UNIT):
        node.attribute.append(helper.make_attribute("dilations", [_dilation(inputs["x"])]))
        constants = {key: x for key, x in inputs.items() if constant and key in CONSTANTS}
    sources = [
        helper.make_tensor_value_info(name, TYPES[x.dtype], axes.get(name, x.shape))
        for name, x in inputs.items()
        if name not in constants
    ]
    results = {"y": TensorProto.UINT8, "quantized": TensorProto.UINT8, "largest": TensorProto.FLOAT}
    if function in (MULTIPLY_BYTES, RESIDUAL_UNIT):
        results["y"] = TensorProto.FLOAT
    targets = [helper.make_tensor_value_info(name, results[name], None) for name in function.outputs]
    weights = [numpy_helper.from_array(x, key) for key, x in constants.items()]
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    graph = helper.make_graph([node], "one", sources, targets, weights)
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    add_functions(model)
    return bytes(model.SerializeToString())


def _dilation(x: Array) -> int:
    """Of a convolution that a test makes for an input."""
    return 1 + x.shape[-1] % 9 if x.ndim else 1


def _run(model: bytes, inputs: dict[str, Array], library: Path | None, threads: int = 2) -> list[Array]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    if library is not None:
        options.register_custom_ops_library(str(library))
    session = ort.InferenceSession(model, options, ["CPUExecutionProvider"])
    return list(session.run(None, {source.name: inputs[source.name] for source in session.get_inputs()}))


def _inputs(function: Function, rows: int, n: int) -> dict[str, Array]:
    """Random inputs of a function, with values beyond the tables' edges, on steps and between them, and rows of zeros."""
    random = np.random.default_rng(rows * 1000 + n)
    if function in (LOOK_UP_BYTES, LOOK_UP_STEPS):
        channels = max(1, rows // 2)
        entries = 256 if function is LOOK_UP_BYTES else 1024
        table = random.integers(0, 256, (2, channels, entries)).astype(np.uint8)
        if function is LOOK_UP_BYTES:
            return {"x": random.integers(0, 256, (2, channels, n)).astype(np.uint8), "table": table}
        x = random.uniform(-700, 700, (2, channels, n)).astype(np.float32)
        x[:, :, ::3] = np.round(x[:, :, ::3])
        return {"x": x, "table": table}
    if function.name in PRODUCTS:
        return PRODUCTS[function.name](random, rows, n)
    numbers = {"least": np.array(1e-9, np.float32), "step": np.array(1 / 127, np.float32)}
    values = random.standard_normal((1, rows, n)).astype(np.float32)
    values[:, ::3] *= 0
    values[:, 1::3, ::5] *= 1000
    if function is QUANTIZE_ROWS:
        return {"x": values, **numbers}
    return {
        "value": values,
        "gate": random.standard_normal((1, rows, n)).astype(np.float32) * 4,
        "scale": random.uniform(0, 3, (1, rows, 1)).astype(np.float32),
        "value_bias": random.standard_normal(n).astype(np.float32),
        "gate_bias": random.standard_normal(n).astype(np.float32),
        **numbers,
        "rotation": hadamard(64).astype(np.float32),
    }


def _product(random: np.random.Generator, rows: int, n: int) -> dict[str, Array]:
    """Inputs of a matmul of `rows` rows of n values."""
    return {
        "x": random.integers(0, 256, (2, rows, n)).astype(np.uint8),
        "weights": random.integers(-127, 128, (n, 70 * rows)).astype(np.int8),
        "scales": random.uniform(0.001, 1, 70 * rows).astype(np.float32),
    }


def _weights(random: np.random.Generator, *shape: int) -> Array:
    """Weights of which no two add up to more than 128: they overflow on no processor."""
    return random.integers(-64, 65, shape).astype(np.int8)


def _convolution(random: np.random.Generator, clips: int, inputs: int, outputs: int, n: int) -> dict[str, Array]:
    """Inputs of a convolution whose results are now and then beyond a byte, with n frames left."""
    x = random.integers(0, 256, (clips, inputs, n)).astype(np.uint8)
    taps = min(3, 1 + (n - 1) // _dilation(x)) if n else 1
    return {
        "x": x,
        "weights": _weights(random, outputs, inputs, taps),
        "factors": random.uniform(0.001, 0.05, outputs).astype(np.float32),
        "biases": random.integers(-20000, 20000, outputs).astype(np.int32),
    }


def _unit(random: np.random.Generator, clips: int, channels: int, n: int) -> dict[str, Array]:
    """Inputs of a residual unit with a kernel of seven."""
    x = random.uniform(-700, 700, (clips, channels, n)).astype(np.float32)
    first, second = (_convolution(random, clips, channels, channels, 100) for _ in range(2))

    def octets(*shape: int) -> Array:
        return random.integers(0, 256, shape).astype(np.uint8)

    return {
        "x": x,
        "steps": octets(clips, channels, 1024),
        "edges": octets(clips, channels, 3 * _dilation(x)),
        "dilated": _weights(random, channels, channels, 7),
        "dilated_factors": first["factors"],
        "dilated_biases": first["biases"],
        "bytes": octets(clips, channels, 256),
        "pointwise": _weights(random, channels, channels, 1),
        "pointwise_factors": second["factors"],
        "pointwise_biases": second["biases"],
        "scale": random.uniform(0.1, 3, channels).astype(np.float32),
        "zero": octets(channels),
    }


PRODUCTS = {
    "MultiplyBytes": _product,
    "ConvolveBytes": lambda random, rows, n: _convolution(random, 2, 3 * rows, 2 * rows + 1, n),
    "ResidualUnit": lambda random, rows, n: _unit(random, 2, rows + 3, n),
}
"""Makes inputs of the functions that are products, by their names."""


@needs_compiler
@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_operator_computes_what_its_function_does(name, installed, monkeypatch):
    function = FUNCTIONS[name]
    gated = function is QUANTIZE_GATED_ROWS
    compared = 0
    assert installed.library is not None
    for rows, n in (
        ((1, 64), (3, 128), (7, 576), (2, 1024)) if gated else ((1, 1), (2, 5), (5, 63), (4, 64), (3, 257), (9, 1000))
    ):
        inputs = _inputs(function, rows, n)
        model = _model(function, inputs, {})
        stock = _run(model, inputs, None)
        for kernels in _kernels(monkeypatch):
            found = _found_again(monkeypatch, kernels)
            assert found.kernels == kernels
            for expected, result in zip(stock, _run(model, inputs, found.library), strict=True):
                assert result.shape == expected.shape
                assert result.dtype == expected.dtype
                if not gated:
                    np.testing.assert_array_equal(result, expected)
                elif result.dtype == np.uint8:
                    # Sums in another order: now and then a value falls on the other side of a step.
                    differences = np.abs(result.astype(int) - expected.astype(int))
                    assert differences.max() <= 1
                    assert differences.mean() < 0.002
                else:
                    np.testing.assert_allclose(result, expected, rtol=2e-6)
            compared += 1
    assert compared >= 4


@needs_compiler
def test_no_frames_are_no_frames(installed):
    inputs = _inputs(LOOK_UP_BYTES, 4, 0)
    (result,) = _run(_model(LOOK_UP_BYTES, inputs, {"x": (2, 2, "n")}), inputs, installed.library)
    assert result.shape == (2, 2, 0)


@needs_compiler
@pytest.mark.parametrize(
    ("name", "changed", "shape"),
    [
        ("LookUpBytes", "table", (2, 2, 255)),
        ("LookUpBytes", "table", (2, 3, 256)),
        ("LookUpBytes", "table", (1, 2, 256)),
        ("LookUpBytes", "table", (256,)),
        ("LookUpSteps", "table", (2, 2, 1023)),
        ("LookUpSteps", "x", (2, 2)),
        ("LookUpSteps", "x", ()),
        ("ConvolveBytes", "x", (2, 13, 128)),
        ("ConvolveBytes", "x", (12, 128)),
        ("ConvolveBytes", "weights", (9, 12)),
        ("ConvolveBytes", "weights", (9, 0, 3)),
        ("ConvolveBytes", "factors", (8,)),
        ("ConvolveBytes", "biases", (10,)),
        ("ConvolveBytes", "factors", (9, 1)),
        ("MultiplyBytes", "x", (2, 4, 127)),
        ("MultiplyBytes", "x", ()),
        ("MultiplyBytes", "weights", (44, 128)),
        ("MultiplyBytes", "weights", (128,)),
        ("MultiplyBytes", "weights", (1, 128, 44)),
        ("MultiplyBytes", "scales", (43,)),
        ("MultiplyBytes", "scales", (280, 1)),
        ("ResidualUnit", "x", (2, 6, 128)),
        ("ResidualUnit", "x", (1, 7, 128)),
        ("ResidualUnit", "steps", (2, 7, 1023)),
        ("ResidualUnit", "edges", (2, 7, 8)),
        ("ResidualUnit", "edges", (2, 6, 9)),
        ("ResidualUnit", "edges", ()),
        ("ResidualUnit", "bytes", (2, 7, 255)),
        ("ResidualUnit", "dilated", (7, 6, 7)),
        ("ResidualUnit", "dilated", (7, 7, 6)),
        ("ResidualUnit", "dilated_biases", (6,)),
        ("ResidualUnit", "pointwise", (7, 7, 3)),
        ("ResidualUnit", "pointwise_factors", (1,)),
        ("ResidualUnit", "scale", (6,)),
        ("ResidualUnit", "zero", (8,)),
        ("ResidualUnit", "zero", (7, 1)),
        ("QuantizeRows", "x", ()),
        ("QuantizeRows", "least", (2,)),
        ("QuantizeRows", "least", (1, 1, 1, 1)),
        ("QuantizeRows", "step", (0,)),
        ("QuantizeRows", "step", (1, 1)),
        ("QuantizeGatedRows", "gate", (1, 4, 64)),
        ("QuantizeGatedRows", "scale", (1, 1, 1)),
        ("QuantizeGatedRows", "value_bias", (64,)),
        ("QuantizeGatedRows", "gate_bias", (1,)),
        ("QuantizeGatedRows", "value_bias", (128, 1)),
        ("QuantizeGatedRows", "gate_bias", (1, 1, 1, 128)),
        ("QuantizeGatedRows", "least", (1, 1, 1, 1)),
        ("QuantizeGatedRows", "rotation", (64, 32)),
        ("QuantizeGatedRows", "rotation", (64, 64)),
    ],
)
def test_shapes_that_do_not_fit_are_an_error(name, changed, shape, installed):
    """A graph comes from anywhere. An operator reads nothing beyond its inputs."""
    function = FUNCTIONS[name]
    inputs = _inputs(function, 4, 128)
    inputs[changed] = np.zeros(shape, inputs[changed].dtype)
    open_axes: dict[str, tuple[int | str, ...]] = {
        key: tuple(f"{key}_{i}" for i in range(value.ndim)) for key, value in inputs.items()
    }
    with pytest.raises(Exception, match="expected"):
        _run(_model(function, inputs, open_axes), inputs, installed.library)


@needs_compiler
@pytest.mark.parametrize("axes", [(512,), (4, 128), (2, 2, 2, 64)])
def test_gated_rows_have_three_axes(axes, installed):
    """Others would be cut into groups in another way."""
    inputs = _inputs(QUANTIZE_GATED_ROWS, 4, 128)
    n = axes[-1]
    for name, shape in {"value": axes, "gate": axes, "scale": (*axes[:-1], 1), "value_bias": (n,), "gate_bias": (n,)}.items():
        inputs[name] = np.zeros(shape, np.float32)
    with pytest.raises(Exception, match="expected two values"):
        _run(_model(QUANTIZE_GATED_ROWS, inputs, {}), inputs, installed.library)


@needs_compiler
@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("place", [(0, 0), (63, 63), (17, 40), None])
def test_another_rotation_is_an_error(place, constant, installed):
    """The operator multiplies by the one that it knows, whatever the graph says."""
    inputs = _inputs(QUANTIZE_GATED_ROWS, 4, 128)
    matrix = inputs["rotation"]
    if place is not None:
        matrix[place] = np.nextafter(matrix[place], np.float32(1))
    model = onnx.load_from_string(_model(QUANTIZE_GATED_ROWS, inputs, {}))
    if constant:
        (value,) = (source for source in model.graph.input if source.name == "rotation")
        model.graph.input.remove(value)
        model.graph.initializer.append(numpy_helper.from_array(matrix, "rotation"))
    if place is None:
        assert len(_run(model.SerializeToString(), inputs, installed.library)) == 2
        return
    with pytest.raises(Exception, match="expected the orthogonal Hadamard matrix of 64"):
        _run(model.SerializeToString(), inputs, installed.library)


NAN, INF = np.float32("nan"), np.float32("inf")

BROKEN: dict[str, tuple[dict[int, np.float32], bool]] = {
    "all": (dict.fromkeys(range(1000), NAN), True),
    "negative": (dict.fromkeys(range(1000), -NAN), True),
    "the first": ({0: NAN}, False),
    "one": ({3: NAN}, False),
    "the last": ({-1: NAN}, False),
    "beside infinity": ({1: INF, 2: NAN}, False),
    "before infinity": ({1: NAN, 3: -INF}, False),
    "infinity": ({3: INF}, True),
    "the last is infinity": ({-1: -INF}, True),
    "both infinities": ({3: INF, 4: -INF}, True),
    "infinities": (dict.fromkeys(range(1000), INF), True),
}
"""Values at places of a row, and whether the function's own nodes treat them the same everywhere."""


@needs_compiler
@pytest.mark.parametrize("n", [5, 16, 31, 257, 1000])
def test_a_row_with_nan_is_seen(n, installed, monkeypatch):
    """Its largest value is NaN, and so will be what is computed from it. ONNX Runtime's maximum loses a NaN in some places."""
    inputs = _inputs(QUANTIZE_ROWS, len(BROKEN), n)
    x = np.random.default_rng(n).standard_normal((1, len(BROKEN), n)).astype(np.float32)
    for row, (values, _) in zip(x[0], BROKEN.values(), strict=True):
        for place, value in values.items():
            if place < n:
                row[place] = value
    inputs["x"] = x
    model = _model(QUANTIZE_ROWS, inputs, {})
    quantized, largest = _run(model, inputs, None)
    nan = np.asarray(np.isnan(x).any(axis=-1))
    same = [number for number, (_, same) in enumerate(BROKEN.values()) if same]
    for kernels in _kernels(monkeypatch):
        own_quantized, own_largest = _run(model, inputs, _found_again(monkeypatch, kernels).library)
        np.testing.assert_array_equal(np.isnan(own_largest[..., 0]), nan)
        assert not own_quantized[nan].any()
        np.testing.assert_array_equal(own_quantized[:, same], quantized[:, same])
        np.testing.assert_array_equal(own_largest[:, same].view(np.int32), largest[:, same].view(np.int32))


@needs_compiler
@pytest.mark.parametrize("n", [5, 64, 200])
def test_nan_is_no_step_of_a_table(n, installed, monkeypatch):
    """A byte cannot tell of it, so it is an error, as it is of the function's own nodes on x86. Infinity is the table's end."""
    inputs = _inputs(LOOK_UP_STEPS, 4, n)
    inputs["x"][1, 1, 2] = INF
    inputs["x"][0, 1, -1] = -INF
    model = _model(LOOK_UP_STEPS, inputs, {})
    (expected,) = _run(model, inputs, None)
    for kernels in _kernels(monkeypatch):
        found = _found_again(monkeypatch, kernels)
        np.testing.assert_array_equal(_run(model, inputs, found.library)[0], expected)
        for place in (0, n // 2, n - 1):
            broken = inputs["x"].copy()
            broken[1, 0, place] = NAN
            with pytest.raises(Exception, match="expected numbers, found NaN"):
                _run(model, inputs | {"x": broken}, found.library)


@needs_compiler
@pytest.mark.parametrize("name", ["value", "gate"])
@pytest.mark.parametrize("value", [NAN, INF])
def test_a_gated_row_that_is_broken_is_seen(name, value, installed, monkeypatch):
    inputs = _inputs(QUANTIZE_GATED_ROWS, 4, 192)
    inputs[name][0, 1, 70] = value
    inputs[name][0, 2] = value
    model = _model(QUANTIZE_GATED_ROWS, inputs, {})
    for kernels in _kernels(monkeypatch):
        _, largest = _run(model, inputs, _found_again(monkeypatch, kernels).library)
        assert np.isfinite(largest[0, :, 0]).tolist() == [True, False, False, True]


@needs_compiler
def test_a_kernel_that_is_longer_than_its_input_is_an_error(installed):
    inputs = _inputs(CONVOLVE_BYTES, 4, 128)
    model = _model(CONVOLVE_BYTES, inputs, {"x": (2, 12, "n")})
    with pytest.raises(Exception, match="shorter than the kernel"):
        _run(model, {**inputs, "x": inputs["x"][:, :, :5]}, installed.library)


@needs_compiler
@pytest.mark.parametrize("name", FUNCTIONS)
def test_more_axes_than_there_is_room_for_are_an_error(name, installed):
    """They are not written beyond the end of a shape: a graph's constants may have any number of axes."""
    function = FUNCTIONS[name]
    inputs = _inputs(function, 4, 128)
    first = function.inputs[0]
    for axes in (9, 40, 3000):
        model = onnx.load_from_string(_model(function, inputs, {first: tuple("abc"[: inputs[first].ndim])}))
        (value,) = (source for source in model.graph.input if source.name == first)
        model.graph.input.remove(value)
        tensor = numpy_helper.from_array(inputs[first], first)
        tensor.dims[:] = [1] * (axes - inputs[first].ndim) + list(inputs[first].shape)
        model.graph.initializer.append(tensor)
        with pytest.raises(Exception, match="expected no more than 8 axes"):
            _run(model.SerializeToString(), inputs, installed.library)


@needs_compiler
def test_the_operators_are_found_by_one_thread(package, monkeypatch):
    """Kernels are compared in arrays of the library, so two threads would find differences that are none."""
    monkeypatch.syspath_prepend(str(package))
    monkeypatch.delenv(native.VARIABLE, raising=False)
    running, most = [0], [0]
    real = importlib.import_module

    def counted(name: str) -> ModuleType:
        running[0] += 1
        most[0] = max(most[0], running[0])
        time.sleep(0.05)
        running[0] -= 1
        return real(name)

    monkeypatch.setattr(importlib, "import_module", counted)
    _forget()
    threads = [threading.Thread(target=native.native_operators) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert native.native_operators().library is not None
    assert most == [1]
    _forget()


@needs_compiler
@pytest.mark.parametrize("function", [CONVOLVE_BYTES, RESIDUAL_UNIT])
def test_weights_have_to_be_constants(function, installed):
    inputs = _inputs(function, 4, 128)
    with pytest.raises(Exception, match="expected weights that are constants"):
        _run(_model(function, inputs, {}, constant=False), inputs, installed.library)


def _unlike_ours(function: Function) -> dict[str, bytes]:
    """Graphs that the nodes of a function run, and that its operator refuses when they are opened."""
    inputs = _inputs(function, 4, 128)
    if function is QUANTIZE_ROWS:
        model = onnx.load_from_string(_model(function, inputs, {}))
        model.graph.node[0].output[1] = ""
        model.graph.output.pop()
        return {"an output that nobody wants": model.SerializeToString()}
    overridable = onnx.load_from_string(_model(function, inputs, {}, constant=False))
    for name in CONSTANTS & set(inputs):
        overridable.graph.initializer.append(numpy_helper.from_array(inputs[name], name))
    graphs = {
        "weights as inputs": _model(function, inputs, {}, constant=False),
        "weights that may be replaced": overridable.SerializeToString(),
    }
    if function is CONVOLVE_BYTES:
        inputs["x"] = inputs["x"][:, :0]
        inputs["weights"] = inputs["weights"][:, :0]
        graphs["no channels"] = _model(function, inputs, {})
        model = onnx.load_from_string(_model(function, _inputs(function, 4, 128), {}))
        del model.graph.node[0].attribute[:]
        graphs["no dilation"] = model.SerializeToString()
    return graphs


@needs_compiler
@pytest.mark.parametrize("function", [CONVOLVE_BYTES, RESIDUAL_UNIT, QUANTIZE_ROWS], ids=lambda function: function.name)
def test_a_graph_that_operators_refuse_runs_with_stock_nodes(function, installed, caplog, tmp_path):
    for what, model in _unlike_ours(function).items():
        with pytest.raises(Exception, match=r"expected|invalid model"):
            ort.InferenceSession(model, _with(installed.library), ["CPUExecutionProvider"])
        path = tmp_path / "graph.onnx"
        path.write_bytes(model)
        caplog.clear()
        with caplog.at_level("INFO", logger="sao_onnx"):
            session = SessionFactory(2).session(path)
        assert "stock nodes in place of native operators" in caplog.text, what
        assert SessionFactory(2).own_session(model).get_inputs()[0].name == session.get_inputs()[0].name
        inputs = _inputs(function, 4, 128)
        if what == "no channels":
            inputs["x"] = inputs["x"][:, :0]
        given = {source.name: inputs[source.name] for source in session.get_inputs()}
        for own, stock in zip(session.run(None, given), _run(model, inputs, None), strict=True):
            assert own.shape == stock.shape
            if what != "no channels":  # ONNX Runtime's own sums of nothing are what was in memory before.
                np.testing.assert_array_equal(own, stock)


def _with(library: Path | None) -> Any:
    options = ort.SessionOptions()
    options.register_custom_ops_library(str(library))
    options.log_severity_level = 4
    return options


@needs_compiler
def test_a_graph_that_nothing_runs_is_an_error_of_its_own(installed, tmp_path):
    """What is said of it is what is wrong with stock nodes, as without operators."""
    path = tmp_path / "graph.onnx"
    path.write_bytes(b"no graph")
    with pytest.raises(BundleError, match="cannot load"):
        SessionFactory(1).session(path)


@pytest.mark.parametrize("version", [1, 2, 300])
def test_the_version_that_a_graph_calls_is_read(version, tmp_path):
    model = onnx.load_from_string(_model(QUANTIZE_ROWS, _inputs(QUANTIZE_ROWS, 1, 5), {}))
    (entry,) = (entry for entry in model.opset_import if entry.domain == DOMAIN)
    entry.version = version
    path = tmp_path / "graph.onnx"
    path.write_bytes(model.SerializeToString())
    assert native.called_version(path) == native.called_version(path.read_bytes()) == version
    model.opset_import.remove(entry)
    assert native.called_version(model.SerializeToString()) is None


def test_bytes_that_are_no_model_call_nothing():
    model = _model(QUANTIZE_ROWS, _inputs(QUANTIZE_ROWS, 1, 5), {})
    random = np.random.default_rng(1)
    for _ in range(2000):
        damaged = bytearray(model[: random.integers(len(model) + 1)])
        for place in random.integers(0, max(len(damaged), 1), 3) if damaged else ():
            damaged[place] = random.integers(256)
        found = native.called_version(bytes(damaged))
        assert found is None or found >= 0
    for hostile in (b"\xff" * 100, b"\x42" + b"\xff" * 9 + b"\x01", b"\x3a" + b"\xff" * 8 + b"\x7f", b"\x42\x00" * 1_000_000):
        assert native.called_version(hostile) is None


def test_a_model_of_nothing_but_imports_is_not_read_for_long():
    """A file of 30 MB, of which little is read: each read is a step of Python."""
    reads = 0

    class Counted(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            nonlocal reads
            reads += 1
            return super().read(size)

    field = b"\x1a\x00"  # An empty text, of a number that imports do not have.
    for many in (5000, 400):
        imported = field * many
        entry = b"\x42" + bytes([len(imported) & 127 | 128, len(imported) >> 7]) + imported
        assert domain_version(Counted(entry * 3000), DOMAIN) is None
    assert reads < 10_000


@needs_compiler
def test_operators_of_another_version_are_not_those_of_a_graph(installed, tmp_path, caplog):
    """ONNX Runtime would take them, whatever the graph's functions compute."""
    inputs = _inputs(QUANTIZE_ROWS, 4, 128)
    model = onnx.load_from_string(_model(QUANTIZE_ROWS, inputs, {}))
    (smallest,) = (node for node in model.functions[0].node if node.op_type == "ReduceMax")
    smallest.op_type = "ReduceMin"
    for entry in (*model.opset_import, *model.functions[0].opset_import):
        if entry.domain == DOMAIN:
            entry.version = native.VERSION + 1
    expected = _run(model.SerializeToString(), inputs, None)
    assert not np.array_equal(expected[1], _run(model.SerializeToString(), inputs, installed.library)[1])
    path = tmp_path / "graph.onnx"
    path.write_bytes(model.SerializeToString())
    with caplog.at_level("INFO", logger="sao_onnx"):
        session = SessionFactory(1).session(path)
    np.testing.assert_array_equal(session.run(None, inputs)[1], expected[1])
    assert "calls operators of version 2, not 1" in caplog.text


BODIES = {1: "224cdcc58717428ddd04965db9b2dbca0f44f85149cafbf234a756d13cfbfc83"}
"""Digest of the functions, for each version of their domain."""


def test_functions_are_those_of_their_version():
    """Operators compute what these functions did when the version was given out. Other functions need another one."""
    assert VERSION == native.VERSION
    digest = hashlib.sha256()
    for name in sorted(FUNCTIONS):
        function = FUNCTIONS[name].proto(20)
        function.doc_string = ""
        digest.update(function.SerializeToString(deterministic=True))
    assert digest.hexdigest() == BODIES[VERSION], "raise VERSION here, in sao_onnx and in engine/ops, and add its digest"


def test_nodes_become_the_call_of_their_function():
    """Only where every node, every name and every attribute is that of the function."""
    inner = CONVOLVE_BYTES.call_for(RESIDUAL_UNIT.body)
    assert inner is None
    nodes = [type(node)() for node in RESIDUAL_UNIT.body]
    for own, node in zip(RESIDUAL_UNIT.body, nodes, strict=True):
        node.CopyFrom(own)
        node.input[:] = [f"outer_{name}" for name in own.input]
        node.output[:] = [f"outer_{name}" for name in own.output]
        for attribute in node.attribute:
            if attribute.ref_attr_name:
                attribute.CopyFrom(helper.make_attribute(attribute.name, [9]))
    call = RESIDUAL_UNIT.call_for(nodes)
    assert call is not None
    assert list(call.input) == [f"outer_{name}" for name in RESIDUAL_UNIT.inputs]
    assert list(call.output) == ["outer_y"]
    assert list(call.attribute[0].ints) == [9]
    nodes[-1].input[0] = "another value than the first node's"
    assert RESIDUAL_UNIT.call_for(nodes) is None


def _pair_sums(bundle: Bundle) -> float:
    """The largest sum of two neighbouring weights in the convolutions that a bundle's graphs call."""
    largest = 0.0
    for graph in bundle.manifest.graphs:
        model = onnx.load(bundle.path(graph.path))
        constants = {tensor.name: tensor for tensor in model.graph.initializer}
        for node in model.graph.node:
            for index in {"ConvolveBytes": (1,), "ResidualUnit": (3, 7)}.get(node.op_type, ()):
                weights = numpy_helper.to_array(constants[node.input[index]]).astype(int)
                largest = max(largest, pair_sums(weights).max())
    assert largest
    return largest


@needs_compiler
def test_a_clip_with_them_is_the_clip_without_them(installed, eight_bits, monkeypatch):
    """Equal where integers are computed; elsewhere within what 8 bits lose anyway."""
    bundle = eight_bits
    assert native.operators_of(open_bundle(bundle)) == installed.kernels
    assert _pair_sums(open_bundle(bundle)) <= MAX_PAIR_SUM
    engine = sao_onnx.load(bundle, threads=2)
    fast = engine.generate("a kick drum", seed=5)
    _found_again(monkeypatch, "off")
    engine.unload()
    stock = engine.generate("a kick drum", seed=5)
    assert not np.array_equal(fast.samples, stock.samples)  # The gate is summed up in another order: so they were used.
    noise = np.square(fast.samples - stock.samples).mean()
    assert 10 * np.log10(np.square(stock.samples).mean() / noise) > 30
    # From the same latents, the decoder's samples are the same.
    again = sao_onnx.load(bundle, threads=2)
    decoded_stock = again.decode(stock.latents)
    assert _found_again(monkeypatch, "").library is not None
    again.unload()
    np.testing.assert_array_equal(again.decode(stock.latents), decoded_stock)


@needs_compiler
def test_a_clip_of_a_bundle_that_operators_refuse(installed, eight_bits, tmp_path, caplog):
    bundle = open_bundle(shutil.copytree(eight_bits, tmp_path / "bundle"))
    latents = sao_onnx.load(bundle.folder, threads=2).generate("a kick drum", seconds=1, seed=5).latents
    expected = sao_onnx.load(bundle.folder, threads=2).decode(latents)
    changed = 0
    for role in bundle.manifest.decoder_roles:
        path = bundle.path(bundle.manifest.graph(role, "int8").path)
        model = onnx.load(path, load_external_data=False)
        tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        called = [name for node in model.graph.node if node.domain == DOMAIN for name in node.input]
        for name in sorted({name for name in called if name in tensors}):
            model.graph.input.append(helper.make_tensor_value_info(name, tensors[name].data_type, list(tensors[name].dims)))
            changed += 1
        path.write_bytes(model.SerializeToString())
    describe_files(bundle.folder, json.loads((bundle.folder / "manifest.json").read_text()))
    assert changed > 10
    engine = sao_onnx.load(bundle.folder, threads=2)
    with caplog.at_level("INFO", logger="sao_onnx"):
        np.testing.assert_array_equal(engine.decode(latents), expected)
    assert "stock nodes in place of native operators" in caplog.text


@needs_compiler
@pytest.mark.parametrize("keep", [True, False])
def test_threads_share_an_engine_that_lets_go_at_any_moment(keep, installed, eight_bits):
    options: dict[str, Any] = {"seconds": 1, "steps": 2}
    engine = sao_onnx.load(eight_bits, threads=2, keep_loaded=keep)
    expected = [engine.generate("a kick drum", seed=seed, **options).samples for seed in range(3)]
    over = threading.Event()

    def let_go() -> None:
        random = np.random.default_rng(1)
        while not over.wait(random.uniform(0, 0.02)):
            engine.unload()

    def made(first: int) -> list[tuple[int, Array]]:
        seeds = [(first + number) % 3 for number in range(12)]
        return [(seed, engine.generate("a kick drum", seed=seed, **options).samples) for seed in seeds]

    with ThreadPoolExecutor(3) as pool:
        letting_go = pool.submit(let_go)
        try:
            clips = [clip for clips in pool.map(made, range(2)) for clip in clips]
        finally:
            over.set()
        letting_go.result()
    for seed, samples in clips:
        np.testing.assert_array_equal(samples, expected[seed])
    many = engine.generate_many(["a kick drum"] * 3, jobs=2, seed=0, **options)
    for clip, samples in zip(many, expected, strict=True):
        np.testing.assert_array_equal(clip.samples, samples)


@needs_compiler
@pytest.mark.parametrize("size", ["empty", "half", "one byte less", "more"])
def test_weights_of_another_size_than_the_graph_says(size, installed, eight_bits, tmp_path):
    """Operators read weights from the file. Where it ends before them, the graph cannot be opened."""
    folder = Path(shutil.copytree(eight_bits, tmp_path / "bundle"))
    expected = sao_onnx.load(eight_bits, threads=1).generate("a kick drum", seconds=1, steps=1, seed=1)
    for path in folder.glob("int8/*.data"):
        whole = path.read_bytes()
        changed = {"empty": b"", "half": whole[: len(whole) // 2], "one byte less": whole[:-1], "more": whole + bytes(99)}
        path.write_bytes(changed[size])
    with pytest.raises(BundleError, match="bytes, expected"):
        sao_onnx.load(folder)
    describe_files(folder, json.loads((folder / "manifest.json").read_text()))
    engine = sao_onnx.load(folder, threads=1)
    if size == "more":
        clip = engine.generate("a kick drum", seconds=1, steps=1, seed=1)
        np.testing.assert_array_equal(clip.samples, expected.samples)
        return
    with pytest.raises(BundleError, match="cannot load"):
        engine.generate("a kick drum", seconds=1, steps=1, seed=1)
    with pytest.raises(BundleError, match="cannot load"):
        engine.decode(expected.latents)


def test_without_the_package_stock_nodes_run(monkeypatch):
    monkeypatch.setitem(sys.modules, "sao_onnx_ops", None)
    found = _found_again()
    _forget()
    assert found.library is None
    assert str(found) == "not used: sao-onnx-ops is not installed"


@pytest.mark.parametrize("value", ["off", "0", " OFF "])
def test_the_variable_turns_them_off(value, monkeypatch):
    found = _found_again(monkeypatch, value)
    _forget()
    assert found.library is None
    assert found.reason.startswith(native.VARIABLE)


def test_a_misspelt_value_of_the_variable_is_told(monkeypatch):
    with pytest.warns(SaoOnnxWarning, match="native operators are not used"):
        found = _found_again(monkeypatch, "offf")
    _forget()
    assert found.library is None
    assert found.reason.startswith("SAO_ONNX_OPS is 'offf', expected off or one of portable")


@needs_compiler
def test_a_bundle_from_before_calls_none(bundle, installed):
    assert native.operators_of(open_bundle(bundle)) == f"{installed.kernels}, but this bundle does not call them"


@needs_compiler
def test_half_a_library_is_not_used(package, tmp_path, monkeypatch):
    """The system would end the process when it reads what is not there."""
    shutil.copytree(package / "sao_onnx_ops", tmp_path / "sao_onnx_ops")
    (library,) = (path for path in (tmp_path / "sao_onnx_ops").iterdir() if path.suffix in (".so", ".dylib", ".dll"))
    library.write_bytes(library.read_bytes()[:60_000])
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "sao_onnx_ops", raising=False)
    found = _found_again(monkeypatch)
    _forget()
    assert found.library is None
    assert "is damaged; install sao-onnx-ops again" in found.reason


@needs_compiler
def test_a_library_that_cannot_be_registered_leaves_stock_nodes(installed, tmp_path, monkeypatch, caplog):
    path = tmp_path / "graph.onnx"
    path.write_bytes(_model(QUANTIZE_ROWS, _inputs(QUANTIZE_ROWS, 1, 5), {}))
    monkeypatch.setattr(sessions, "native_operators", lambda: replace(installed, library=tmp_path / "gone.so"))
    with caplog.at_level(logging.INFO):
        SessionFactory(1).session(path)
    assert "opened with stock nodes" in caplog.text


@needs_compiler
def test_kernels_that_do_not_agree_cannot_be_asked_for(tmp_path, monkeypatch):
    """The portable matmul is made another one, so that all others differ from it."""
    pytest.importorskip("hatchling")
    shutil.copytree(OPS, tmp_path / "ops", ignore=shutil.ignore_patterns("build"))
    source = tmp_path / "ops" / "src" / "product.cc"
    text = source.read_text(encoding="utf-8")
    right = "static_cast<float>(static_cast<int32_t>(sum)) * b.scales[o]"
    assert right in text
    source.write_text(text.replace(right, right.replace("*", "+")), encoding="utf-8")
    _build().compile_library(tmp_path / "ops", tmp_path / "sao_onnx_ops.so")
    package = ModuleType("sao_onnx_ops")
    package.library = lambda: tmp_path / "sao_onnx_ops.so"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sao_onnx_ops", package)
    for wanted in ("", *native.KERNELS[1:]):
        assert _found_again(monkeypatch, wanted).library is None
    _forget()


def test_memory_that_runs_out_in_an_operator_is_told_as_that():
    (told,) = re.findall(r'NO_MEMORY = "(.*)"', (OPS / "src" / "operator.h").read_text(encoding="utf-8"))
    assert sessions._is_out_of_memory(RuntimeError(told))


def test_a_library_that_is_none_is_not_used(monkeypatch, tmp_path):
    broken = tmp_path / "sao_onnx_ops.so"
    broken.write_bytes(b"\x7fELF of another machine")
    package = ModuleType("sao_onnx_ops")
    package.library = lambda: broken  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sao_onnx_ops", package)
    found = _found_again()
    _forget()
    assert found.library is None
    assert "cannot be used" in found.reason


def test_another_package_of_this_name_is_not_used(monkeypatch):
    monkeypatch.setitem(sys.modules, "sao_onnx_ops", ModuleType("sao_onnx_ops"))
    found = _found_again()
    _forget()
    assert found.library is None


def _build() -> ModuleType:
    """How the library is compiled."""
    specification = importlib.util.spec_from_file_location("ops_build", OPS / "hatch_build.py")
    assert specification is not None
    assert specification.loader is not None
    build = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(build)
    return build


def _fuzz(target: Path, compiler: list[str], *flags: str) -> Path:
    sources = [*sorted((OPS / "src").glob("*.cc")), OPS / "tests" / "fuzz.cc"]
    command = [*compiler, *_build().FLAGS, *flags, f"-I{OPS / 'src'}", *map(str, sources), "-o", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and "cannot find" in done.stderr:
        pytest.skip(f"{compiler[0]} lacks a library: {done.stderr.strip().splitlines()[-1][:200]}")
    assert done.returncode == 0, done.stderr[-3000:]
    return target


@needs_compiler
def test_kernels_agree_and_stay_within_their_arrays(tmp_path):
    """Every kind of kernels against the portable ones, over random lengths and offsets, under two sanitizers."""
    pytest.importorskip("hatchling")
    sanitizers = ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    program = _fuzz(tmp_path / "fuzz", [str(COMPILER)], *sanitizers)
    done = subprocess.run([str(program), "150"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert "portable: 150 rounds agree" in done.stdout


ARM_COMPILERS = (["aarch64-linux-gnu-g++"], [sys.executable, "-m", "ziglang", "c++", "-target", "aarch64-linux-musl"])


def test_kernels_agree_on_arm(tmp_path, monkeypatch):
    """The same on emulated cores of a Raspberry Pi 4 and 5 and on one with everything that QEMU knows."""
    pytest.importorskip("hatchling")
    emulator = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
    if emulator is None:
        pytest.skip("there is no QEMU for Arm")
    zig = importlib.util.find_spec("ziglang") is not None
    compiler = next((c for c in ARM_COMPILERS if (zig if "ziglang" in c else shutil.which(c[0]))), None)
    if compiler is None:
        pytest.skip("there is no compiler for Arm: neither aarch64-linux-gnu-g++ nor the package ziglang")
    if "ziglang" not in compiler:
        monkeypatch.setenv("CXX", shlex.join(compiler))
        _build().compile_library(OPS, tmp_path / "library.so")
    program = _fuzz(tmp_path / "fuzz", compiler, "-static")
    for core in ("cortex-a72", "cortex-a76", "max"):
        done = subprocess.run([emulator, "-cpu", core, str(program), "200"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr[-2000:]
        assert "neon: 200 rounds agree" in done.stdout
