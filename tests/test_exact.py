"""8-bit products are what integers give, on this processor and on others: no sum of products overflows anywhere."""

from __future__ import annotations

import itertools
import os
import platform
import shutil
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

import sao_onnx
from bench.processors import PROCESSORS, UnavailableError, environment
from sao_onnx.bundle.bundle import open_bundle
from sao_onnx.runtime import int8_matmul
from sao_onnx.runtime.sessions import EXACT_INT8_MATMUL, SessionFactory
from sao_onnx_convert.bundle.description import describe_files
from sao_onnx_convert.bundle.writer import write_manifest
from sao_onnx_convert.export.builder import MICROSOFT, GraphBuilder
from sao_onnx_convert.quantize.matmul import block_matmul, quantize_blocks, row_matmuls
from sao_onnx_convert.quantize.overflow import MAX_PAIR_SUM, pair_sums, quantize_without_overflow
from sao_onnx_convert.unshare import OWN_INPUTS, unshare
from sao_onnx_convert.unshare import main as mend
from tests import processes
from tests.conftest import ROOT
from tests.x86 import exercise

MIDDLE = 128

PAIRS = np.array([[127, 127], [127, -128], [-128, 127], [-128, -128]], np.int8)
"""Two weights side by side, every pairing of the largest ones."""

LENGTHS = (1, 2, 3, 4, 5, 15, 16, 17, 31, 32, 33, 63, 64, 65, 130, 257)
CLIP_SNR = 40.0
"""Decibels between clips of processors whose floating point differs; products that overflow leave 26."""

ROWS = (1, 2, 3, 5, 6, 7, 33)


SMALLER = np.array([[127, 1], [64, 64], [127, -127], [-127, 127], [-64, -64], [-1, -127]], np.int8)
"""Two of the largest that the converter puts side by side in a convolution."""


def _weights(length: int, outputs: int, pairs: np.ndarray = PAIRS) -> np.ndarray:
    """[length, outputs]: one pairing a column."""
    repeated = np.tile(pairs.T, (-(-length // 2), -(-outputs // len(pairs))))
    return np.ascontiguousarray(repeated[:length, :outputs])


def _codes(rows: int, length: int) -> np.ndarray:
    """[rows, length]: rows of 255, of 255 and 0 in turn, of 0, and random ones of both."""
    random = np.random.default_rng(rows * length).choice(np.array([0, 255], np.uint8), (rows, length))
    random[::4] = 255
    random[1::4, ::2], random[1::4, 1::2] = 255, 0
    random[2::4] = 0
    return random


def _typed(model: onnx.ModelProto, **types: int) -> onnx.ModelProto:
    for value in (*model.graph.input, *model.graph.output):
        if value.name in types:
            value.type.tensor_type.elem_type = types[value.name]
    return model


def _scalar(graph: GraphBuilder, value: float, dtype: type) -> str:
    return graph.constant(np.array(value, dtype))


def _to_float(weights: np.ndarray) -> onnx.ModelProto:
    graph, (inputs, outputs) = GraphBuilder(), weights.shape
    scales = _scalar(graph, 1, np.float32), graph.constant(np.ones(outputs, np.float32))
    zeros = _scalar(graph, MIDDLE, np.uint8), graph.own_constant(np.zeros(outputs, np.int8))
    names = ("x", graph.own_constant(weights), *scales, *zeros)
    graph.node("MatMulIntegerToFloat", *names, output="y", domain=MICROSOFT)
    model = graph.model("product", ["x"], ["y"], {"x": ("b", "n", inputs), "y": ("b", "n", outputs)})
    return _typed(model, x=TensorProto.UINT8)


def _to_integer(weights: np.ndarray) -> onnx.ModelProto:
    graph, (inputs, outputs) = GraphBuilder(), weights.shape
    zeros = _scalar(graph, MIDDLE, np.uint8), graph.own_constant(np.array(0, np.int8))
    graph.node("MatMulInteger", "x", graph.own_constant(np.stack([weights, -1 - weights])), *zeros, output="y")
    model = graph.model("product", ["x"], ["y"], {"x": (2, "n", inputs), "y": (2, "n", outputs)})
    return _typed(model, x=TensorProto.UINT8, y=TensorProto.INT32)


def _convolution(weights: np.ndarray, dilation: int, step: float, domain: str) -> onnx.ModelProto:
    """Of weights [outputs, inputs, kernel]; a code of the result is `step` of its integer."""
    graph, (outputs, inputs, kernel) = GraphBuilder(), weights.shape
    one, middle = _scalar(graph, 1, np.float32), _scalar(graph, MIDDLE, np.uint8)
    zero = graph.own_constant(np.zeros(outputs, np.int8))
    names = ["x", one, middle, graph.own_constant(weights), graph.constant(np.full(outputs, step, np.float32)), zero]
    names += [one, middle, graph.constant(np.zeros(outputs, np.int32))]
    graph.node("QLinearConv", *names, output="y", domain=domain, kernel_shape=[kernel], dilations=[dilation])
    model = graph.model("convolution", ["x"], ["y"], {"x": (1, inputs, "n"), "y": (1, outputs, "m")})
    return _typed(model, x=TensorProto.UINT8, y=TensorProto.UINT8)


Case = tuple[str, onnx.ModelProto, dict[str, np.ndarray], dict[str, np.ndarray]]


def _cases() -> Iterator[Case]:
    """Name, graph, inputs, and what integers make of them, for every kind of node that the converter writes."""
    for length, outputs in itertools.product(LENGTHS, (1, 16, 17, 48)):
        weights = _weights(length, outputs)
        x = {f"{n} rows": _codes(n, length)[None] for n in ROWS}
        wanted = {name: (codes.astype(np.int64) - MIDDLE) @ weights for name, codes in x.items()}
        yield f"MatMulIntegerToFloat {length} {outputs}", _to_float(weights), x, wanted
        x = {name: np.concatenate([codes, codes[:, ::-1]]) for name, codes in x.items()}
        stacked = np.stack([weights, -1 - weights])
        wanted = {name: (codes.astype(np.int64) - MIDDLE) @ stacked for name, codes in x.items()}
        yield f"MatMulInteger {length} {outputs}", _to_integer(weights), x, wanted
    sizes = itertools.product((1, 3, 4, 16, 64, 66), (8, 16, 17, 64), (1, 2, 7))
    for (inputs, outputs, kernel), domain in itertools.product(sizes, ("", MICROSOFT)):
        dilation = 3 if kernel == 7 else 1
        # The converter writes those of ONNX Runtime's domain, which stay signed, and no pairs that would overflow.
        flat = _weights(kernel * inputs, outputs, SMALLER if domain else PAIRS)
        weights = np.ascontiguousarray(flat.reshape(kernel, inputs, outputs).transpose(2, 1, 0))
        x = {f"{n} frames": _codes(n + (kernel - 1) * dilation, inputs).T[None] for n in ROWS}
        sums = {name: _convolved(codes[0], weights, dilation) for name, codes in x.items()}
        step = np.float32(127 / max(1, *(np.abs(integers).max() for integers in sums.values())))
        wanted = {
            name: np.clip(np.rint(integers.astype(np.float32) * step) + MIDDLE, 0, 255)[None] for name, integers in sums.items()
        }
        model = _convolution(weights, dilation, float(step), domain)
        yield f"{domain}QLinearConv {inputs} {outputs} {kernel}", model, x, wanted


def _convolved(codes: np.ndarray, weights: np.ndarray, dilation: int) -> np.ndarray:
    """Codes [inputs, frames] with weights [outputs, inputs, kernel], in integers."""
    frames = codes.shape[1] - (weights.shape[2] - 1) * dilation
    offsets = codes.astype(np.int64) - MIDDLE
    taps = (weights[:, :, j].astype(np.int64) @ offsets[:, j * dilation :][:, :frames] for j in range(weights.shape[2]))
    return np.sum(list(taps), axis=0)


@pytest.fixture(scope="module")
def cases(tmp_path_factory) -> tuple[Path, dict[str, np.ndarray]]:
    """A folder of graphs and inputs, and the results by name."""
    folder, wanted = tmp_path_factory.mktemp("products"), {}
    for name, model, inputs, results in _cases():
        onnx.save(model, folder / f"{name}.onnx")
        arrays: dict[str, Any] = dict(inputs)
        np.savez(folder / f"{name}.npz", **arrays)
        wanted.update({f"{name}/{key}": result for key, result in results.items()})
    return folder, wanted


def _require_equal(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    assert found.keys() == wanted.keys()
    wrong = [name for name, result in wanted.items() if not np.array_equal(found[name], result)]
    assert not wrong, f"{len(wrong)} of {len(wanted)} differ, {wrong[0]} among them"


def test_products_here(cases):
    folder, wanted = cases
    _require_equal(exercise.products(folder), wanted)


def test_products_of_unsigned_weights(cases, monkeypatch):
    """What is done where products overflow gives the same everywhere."""
    monkeypatch.setattr("sao_onnx.runtime.sessions.int8_matmul_overflows", lambda: True)
    folder, wanted = cases
    _require_equal(exercise.products(folder), wanted)


def test_the_converter_writes_no_other_products(miniature):
    known = {"MatMulIntegerToFloat", "QLinearConv"}
    others = {"MatMulInteger", "MatMulNBits", "DynamicQuantizeMatMul", "QLinearMatMul", "QGemm", "QAttention", "ConvInteger"}
    bundle = open_bundle(miniature)
    found: set[str] = set()
    for graph in bundle.manifest.graphs:
        model = onnx.load(bundle.path(graph.path))
        found |= {node.op_type for node in model.graph.node}
        for tensor in model.graph.initializer:
            if tensor.data_type == TensorProto.INT8 and graph.role != "encoder":
                # On plain Arm cores, two products of −128 by −128 would be more than 16 bits hold.
                assert onnx.numpy_helper.to_array(tensor).min(initial=0) > -128
        constants = {tensor.name: tensor for tensor in model.graph.initializer}
        for node in model.graph.node:
            if node.op_type == "QLinearConv":
                assert node.domain == MICROSOFT
                assert pair_sums(onnx.numpy_helper.to_array(constants[node.input[3]]).astype(int)).max() <= MAX_PAIR_SUM
    assert found & (known | others) == known


@pytest.mark.parametrize("form", ["rows", "blocks"])
@pytest.mark.parametrize("inputs", [2, 31, 64, 200, 256])
def test_products_as_the_converter_writes_them(form, inputs, tmp_path):
    """Weights and activations that are whole steps: the result is an integer's, but for the rounding of its scales."""
    random = np.random.default_rng(inputs)
    matrix = random.choice(np.array([-127, 127], np.float32), (inputs, 33))
    matrix[:, 0] = 127
    x = random.choice(np.array([-127, 127], np.float32), (2, 7, inputs))
    x[0, 0], x[1, 1] = 127, -127
    graph = GraphBuilder()
    if form == "rows":
        (product,) = row_matmuls(graph, "x", [matrix])
    else:
        product = block_matmul(graph, quantize_blocks(graph, "x", inputs), matrix)
    graph.node("Identity", product, output="y")
    path = tmp_path / "product.onnx"
    onnx.save(graph.model("product", ["x"], ["y"], {"x": ("b", "n", inputs), "y": ("b", "n", 33)}), path)
    (found,) = SessionFactory(1).session(path).run(None, {"x": x})
    np.testing.assert_allclose(found, x.astype(np.int64) @ matrix.astype(np.int64), rtol=2e-6, atol=0.05)


@pytest.mark.parametrize("shape", [(16, 64, 7), (8, 3, 7), (8, 1, 1), (5, 33, 2), (4, 6, 1)])
@pytest.mark.parametrize("kind", ["equal", "even", "normal", "one large"])
def test_weights_in_pairs(shape, kind):
    random = np.random.default_rng(len(kind))
    weight = random.uniform(-1, 1, shape) if kind == "even" else random.standard_normal(shape)
    if kind == "equal":
        weight[:] = 0.3
    elif kind == "one large":
        weight[:, 0, 0] = 50
    codes, steps = quantize_without_overflow(weight)
    assert np.abs(codes).max() <= 127
    assert pair_sums(codes).max() <= MAX_PAIR_SUM
    # Half a step; one and a half where both of a pair were rounded up.
    assert (np.abs(codes * steps[:, None, None] - weight) <= 1.5 * steps[:, None, None]).all()
    # Signs that differ never add up; a channel's largest weight alone is 127 steps.
    alternating = np.abs(weight) * np.where(np.arange(weight.shape[1]) % 2, -1, 1)[:, None]
    if shape[1] % 2 == 0:
        np.testing.assert_allclose(quantize_without_overflow(alternating)[1] * 127, np.abs(weight).max(axis=(1, 2)))


def test_the_largest_product_is_a_model_and_finds_overflow():
    model = onnx.load_from_string(int8_matmul.matmul_model())
    onnx.checker.check_model(model, full_check=True)
    inputs = int8_matmul.largest_inputs()
    exact = inputs["a"].astype(np.int32) @ inputs["b"].astype(np.int32)
    assert int8_matmul.is_exact(exact)
    pairs = inputs["a"][:, ::2, None] * inputs["b"][None, ::2].astype(np.int32) * 2
    assert not int8_matmul.is_exact(np.minimum(pairs, 2**15 - 1).sum(axis=1))


def test_the_option_is_set_only_where_products_overflow(monkeypatch, miniature):
    (key,) = EXACT_INT8_MATMUL

    def entry(factory):
        session = factory.session(miniature / "fp32" / "number_conditioner.onnx")
        return session.get_session_options().get_session_config_entry(key)

    monkeypatch.setattr("sao_onnx.runtime.sessions.int8_matmul_overflows", lambda: True)
    assert entry(SessionFactory(1)) == EXACT_INT8_MATMUL[key]
    assert entry(SessionFactory(1, options={key: "0"})) == "0"
    monkeypatch.setattr("sao_onnx.runtime.sessions.int8_matmul_overflows", lambda: False)
    with pytest.raises(RuntimeError, match=key):
        entry(SessionFactory(1))


def _shared(source: Path, target: Path) -> Path:
    """A bundle as they were before products had constants of their own: equal ones are read by all."""
    shutil.copytree(source, target)
    bundle = open_bundle(target)
    for graph in bundle.manifest.graphs:
        if graph.precision == "int8":
            model = onnx.load(bundle.path(graph.path), load_external_data=False)
            _share_zero_points(model.graph)
            onnx.save(model, bundle.path(graph.path))
    names = {file.path for file in bundle.manifest.files}
    files = describe_files(target, {file.path: file.role for file in bundle.manifest.files if file.path in names})
    write_manifest(target, replace(bundle.manifest, files=files))
    return target


def _share_zero_points(graph: onnx.GraphProto) -> None:
    first: dict[bytes, str] = {}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        for position in OWN_INPUTS.get(node.op_type, ())[1:]:
            tensor = constants[node.input[position]]
            node.input[position] = first.setdefault(onnx.numpy_helper.to_array(tensor).tobytes(), tensor.name)


def test_a_bundle_that_is_too_old_says_so_and_can_be_mended(miniature, tmp_path, monkeypatch):
    old = _shared(miniature, tmp_path / "old")
    monkeypatch.setattr("sao_onnx.runtime.sessions.int8_matmul_overflows", lambda: True)
    if platform.machine() != "x86_64":
        pytest.skip("ONNX Runtime makes weights unsigned on x86 alone")
    request: dict[str, Any] = {"prompt": "rain", "seconds": 0.2, "steps": 1, "seed": 1}
    with pytest.warns(sao_onnx.SaoOnnxWarning, match="too old for what prevents it.*sao_onnx_convert.unshare"):
        assert sao_onnx.load(old, precision="int8").generate(**request).samples.size
    written = unshare(old)
    assert {Path(path).stem for path in written} >= {"dit", "context"}
    assert unshare(old) == []
    assert list(open_bundle(old).verify())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mended = sao_onnx.load(old, precision="int8").generate(**request).samples
    np.testing.assert_array_equal(mended, sao_onnx.load(miniature, precision="int8").generate(**request).samples)


def test_mending_from_the_command_line(miniature, tmp_path, monkeypatch, capsys):
    old = _shared(miniature, tmp_path / "old")
    monkeypatch.setattr("sys.argv", ["unshare", str(old)])
    for said in ("written: int8/context.onnx, ", "nothing to do"):
        mend()
        assert capsys.readouterr().out.startswith(said)
    monkeypatch.setattr("sys.argv", ["unshare", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"error: .* holds no manifest.json"):
        mend()


def _qemu(model: str) -> tuple[list[str], dict[str, str]]:
    qemu = shutil.which("qemu-x86_64")
    if sys.platform != "linux" or qemu is None:
        pytest.skip("there is no qemu-x86_64 (Debian's qemu-user)")
    return [qemu, "-cpu", model], {}


def _hidden(kind: str, folder: Path) -> tuple[list[str], dict[str, str]]:
    try:
        return [], environment(kind, folder)
    except UnavailableError as error:
        pytest.skip(f"no such processor here: {error}")


def _exercise(processor: tuple[list[str], dict[str, str]], what: str, source: Path, folder: Path, *rest: str) -> dict[str, Any]:
    """What `exercise` finds on another processor."""
    (before, variables), target = processor, folder / "found.npz"
    command = [*before, os.path.realpath(sys.executable), "-m", "tests.x86.exercise", what, source, target, *rest]
    paths = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = processes.run(command, env=os.environ | paths | variables, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    # No bundle may be too old for this.
    assert "overflow" not in done.stderr
    return dict(np.load(target))


@pytest.mark.parametrize("kind", ["QEMU's Haswell", *PROCESSORS])
def test_products_on_other_processors(kind, cases, tmp_path):
    folder, wanted = cases
    processor = _hidden(kind, tmp_path) if kind in PROCESSORS else _qemu("Haswell")
    _require_equal(_exercise(processor, "products", folder, tmp_path), wanted)


@pytest.mark.parametrize("model", ["miniature", "sao-tiny"])
@pytest.mark.parametrize("kinds", [("avx_vnni", "avx2"), ("this one", "avx512")])
def test_a_clip_does_not_depend_on_dot_products(kinds, model, miniature, tmp_path):
    """Two processors of equal floating point, one with dot products and one without: bit for bit the same clip."""
    bundle = miniature if model == "miniature" else ROOT / "engine" / "sao_onnx" / "bundles" / model
    with_dots, without = (
        _exercise(([], {}) if kind == "this one" else _hidden(kind, tmp_path), "clip", bundle, tmp_path) for kind in kinds
    )
    _require_equal(without, with_dots)


def test_a_clip_on_an_emulated_processor(miniature, tmp_path):
    """Floating point is added up in another order there, and a value that falls on the other side of a step is a step away."""
    there = _exercise(_qemu("Haswell"), "clip", miniature, tmp_path, "1")
    here = exercise.clip(str(miniature), 1)
    for name, array in here.items():
        error = np.square(there[name] - array).sum() / np.square(array).sum()
        assert error < 10 ** (-CLIP_SNR / 10), name
