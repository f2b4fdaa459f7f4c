"""The int8 recipe: its parts on small graphs, and the miniature converted with it."""

from __future__ import annotations

import os

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import sao_onnx
from sao_onnx.autoencoder import Decoder
from sao_onnx.sessions import GraphSession, SessionFactory
from sao_onnx_convert import convert
from sao_onnx_convert.int8.graph import GraphBuilder
from sao_onnx_convert.int8.matmul import quantize_linears
from sao_onnx_convert.int8.weights import store_convolutions_in_int8, store_tables_in_half


def decibels(signal: np.ndarray, found: np.ndarray) -> float:
    noise = ((signal - found).astype(np.float64) ** 2).sum()
    return np.inf if noise == 0 else 10 * np.log10((signal.astype(np.float64) ** 2).sum() / noise)


@pytest.fixture(scope="module")
def both(checkpoint, tmp_path_factory):
    """The miniature in both precisions."""
    return convert(checkpoint, checkpoint / "t5", tmp_path_factory.mktemp("both") / "bundle", precisions=("int8", "fp32"))


@pytest.fixture(scope="module")
def only(checkpoint, tmp_path_factory):
    """The miniature in int8 alone."""
    steps = []
    target = tmp_path_factory.mktemp("only") / "bundle"
    bundle = convert(checkpoint, checkpoint / "t5", target, precisions=("int8",), progress=steps.append)
    assert [step.index for step in steps] == list(range(steps[0].total))
    return bundle


def test_every_part_is_as_close_as_it_should_be(both):
    """On signals of a prompt that was not calibrated on."""
    graphs = {graph.role: graph for graph in both.manifest.graphs if graph.precision == "int8"}
    assert set(graphs) == set(both.manifest.roles)
    for role, graph in graphs.items():
        if role == "number_conditioner":
            assert graph.path.startswith("fp32/")
        else:
            assert graph.tolerance is None
            assert graph.snr >= (graph.min_snr or 35), role
    assert graphs[both.manifest.decoder_roles[-1]].min_snr == 40


def test_int8_is_preferred_and_fp32_is_there(both):
    assert both.manifest.precisions == ("int8", "fp32")
    assert sao_onnx.load(both.folder).precision == "int8"
    assert sao_onnx.load(both.folder, precision="fp32").precision == "fp32"


def test_int8_alone_leaves_nothing_of_fp32_behind(only):
    assert only.manifest.precisions == ("int8",)
    assert sorted(os.listdir(only.folder / "fp32")) == ["number_conditioner.onnx", "number_conditioner.onnx.data"]
    assert list(only.verify())
    assert sao_onnx.load(only.folder).generate("rain", seconds=0.5, seed=1).samples.size


def test_int8_is_smaller(both):
    sizes = {
        precision: sum(both.weight(both.manifest.graph(role, precision)) for role in ("dit", "text_encoder"))
        for precision in ("int8", "fp32")
    }
    assert sizes["int8"] < 0.5 * sizes["fp32"]


def test_a_clip_stays_close(both):
    exact, rounded = (
        sao_onnx.load(both.folder, precision=precision).generate("slow rain", seed=3, trim=False, normalize=False)
        for precision in ("fp32", "int8")
    )
    assert decibels(exact.latents, rounded.latents) > 20
    assert decibels(exact.samples, rounded.samples) > 20


@pytest.mark.parametrize("tile", [1, 2, 5, 32])
@pytest.mark.parametrize("length", [1, 2, 33, 64])
def test_tiles_equal_the_whole(both, tile, length):
    """Static scales: what a tile computes does not depend on the rest of the clip."""
    from dataclasses import replace

    manifest, factory = both.manifest, SessionFactory(2)
    entries = [manifest.graph(role, "int8") for role in manifest.decoder_roles]
    graphs = [GraphSession(factory, both.path(entry.path), entry) for entry in entries]
    whole = latents = np.random.default_rng(length).standard_normal((1, 8, length), dtype=np.float32)
    for graph in graphs:
        (whole,) = graph.run(**{graph.inputs[0]: whole})
    stages = [manifest.decoder[0], *(replace(stage, tile=tile) for stage in manifest.decoder[1:])]
    pieces = list(Decoder(stages, manifest.latents.ratio, graphs, workers=2, piece=8)(latents, whole.shape[2]))
    # A rounding of single precision may tip a value over the edge of an 8-bit step.
    assert decibels(whole, np.concatenate(pieces, axis=2)) > 60


def test_conversion_is_repeatable(both, only):
    """Fixed seeds: the same checkpoint gives the same 8-bit weights."""
    digests = [
        {file.path: file.sha256 for file in bundle.manifest.files if file.path.startswith("int8/")} for bundle in (both, only)
    ]
    assert digests[0] == digests[1]


def test_a_part_that_misses_its_bound_is_reported(checkpoint, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from sao_onnx.cli import app
    from sao_onnx_convert.int8 import recipe

    monkeypatch.setitem(recipe.MIN_SNR, "dit", 99.0)
    arguments = ["convert", str(checkpoint), "--t5", str(checkpoint / "t5"), "-o", str(tmp_path / "b"), "--precision", "int8"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0
    assert "warning: dit in int8 is" in done.stderr
    assert "wanted 99" in done.stderr


def _run(model: onnx.ModelProto, **inputs: np.ndarray) -> np.ndarray:
    onnx.checker.check_model(model)
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, inputs)[0]


def _linear(weight: np.ndarray) -> onnx.ModelProto:
    graph = GraphBuilder()
    graph.node("MatMul", "x", graph.constant(weight), output="y")
    return graph.model("linear", ["x"], ["y"], {"x": ("rows", weight.shape[0]), "y": ("rows", weight.shape[1])})


@pytest.mark.parametrize(("form", "least"), [("dynamic", 36), ("blocks", 38)])
@pytest.mark.parametrize("shape", [(256, 64), (200, 48), (32, 32)])
def test_linears(form, least, shape):
    random = np.random.default_rng(0)
    weight, x = random.standard_normal(shape, dtype=np.float32), random.standard_normal((40, shape[0]), dtype=np.float32)
    model = _linear(weight)
    quantize_linears(model, lambda name, matrix: form)
    assert all(tensor.data_type != TensorProto.FLOAT or len(tensor.dims) == 1 for tensor in model.graph.initializer)
    assert decibels(x @ weight, _run(model, x=x)) > least


def test_a_linear_that_is_left_alone():
    weight = np.eye(4, dtype=np.float32)
    model = _linear(weight)
    quantize_linears(model, lambda name, matrix: None)
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    np.testing.assert_array_equal(_run(model, x=x), x)


def test_stored_convolutions():
    random = np.random.default_rng(1)
    weight, x = random.standard_normal((32, 32, 7), dtype=np.float32), random.standard_normal((1, 32, 50), dtype=np.float32)
    graph = GraphBuilder()
    graph.node("Conv", "x", graph.constant(weight), output="y", kernel_shape=[7], pads=[3, 3])
    model = graph.model("conv", ["x"], ["y"], {"x": (1, 32, "n"), "y": (1, 32, "n")})
    expected = _run(model, x=x)
    store_convolutions_in_int8(model)
    assert {tensor.data_type for tensor in model.graph.initializer} == {TensorProto.INT8, TensorProto.FLOAT}
    assert decibels(expected, _run(model, x=x)) > 38


def test_stored_tables():
    table = np.random.default_rng(2).standard_normal((512, 16)).astype(np.float16).astype(np.float32)
    node = helper.make_node("Gather", ["table", "ids"], ["y"])
    graph = helper.make_graph(
        [node],
        "table",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 16])],
        [numpy_helper.from_array(table, "table")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    ids = np.array([3, 500, 3])
    store_tables_in_half(model)
    assert [tensor.data_type for tensor in model.graph.initializer] == [TensorProto.FLOAT16]
    np.testing.assert_array_equal(_run(model, ids=ids), table[ids])


def test_the_observer_sees_every_range(checkpoint):
    from sao_onnx_convert.int8.decoder import Observer
    from sao_onnx_convert.networks.autoencoder import without_parametrization
    from sao_onnx_convert.pipeline import TorchPipeline

    decoder = without_parametrization(TorchPipeline.load(checkpoint, checkpoint / "t5").model.autoencoder.decoder)
    observer = Observer(decoder)
    with torch.no_grad():
        audio = [decoder(scale * torch.ones(1, 8, 4)) for scale in (1, -2)]
    ranges = observer.finish()
    last = [module for module in decoder.modules() if isinstance(module, torch.nn.Conv1d)][-1]
    expected = torch.cat(audio, dim=2)
    np.testing.assert_allclose(ranges[last].low, expected.amin(dim=(0, 2)))
    np.testing.assert_allclose(ranges[last].high, expected.amax(dim=(0, 2)))
