"""The int8 recipe: its parts on small graphs, and the miniature converted with it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import sao_onnx
from sao_onnx.runtime.sessions import GraphSession, SessionFactory
from sao_onnx.stages.autoencoder import Decoder
from sao_onnx_convert import Progress, convert
from sao_onnx_convert.export.builder import GraphBuilder
from sao_onnx_convert.family.stable_audio_open.networks.autoencoder import Snake, SnakeBeta
from sao_onnx_convert.family.stable_audio_open.transformer import float_matmuls
from sao_onnx_convert.quantize.decoder_graph import DecoderGraph, Quantized, Scaled, table_scale
from sao_onnx_convert.quantize.matmul import hadamard, quantize_matmuls, rotated_row_matmuls, row_matmuls
from sao_onnx_convert.quantize.ranges import Observer, quantization
from sao_onnx_convert.quantize.weights import store_convolutions_in_int8, store_tables_in_int8


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
    steps: list[Progress] = []
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


def test_every_matrix_of_the_blocks_is_in_8_bits(both):
    """Nine of each block of the DiT, the two of its context, and all of T5, its table of tokens included."""
    blocks = {"dit": 9, "context": 2}
    for role, count in blocks.items():
        matrices = [t for t in _tensors(both, role) if t.data_type == TensorProto.INT8 and len(t.dims) == 2]
        assert len(matrices) == count * 2, role
    wide = [t for t in _tensors(both, "text_encoder") if t.data_type == TensorProto.FLOAT and np.prod(t.dims) >= 4096]
    assert not wide


def _tensors(bundle, role):
    return list(onnx.load(bundle.path(bundle.manifest.graph(role, "int8").path)).graph.initializer)


def test_a_clip_stays_close(both):
    exact, rounded = (
        sao_onnx.load(both.folder, precision=precision).generate("slow rain", seed=3, full_window=True, normalize="none")
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


def test_a_part_that_8_bits_would_ruin_stays_in_single_precision(checkpoint, both, tmp_path, monkeypatch):
    from sao_onnx_convert.quantize import recipe

    lost = {graph.role: graph.snr for graph in both.manifest.graphs if graph.precision == "int8"}
    decoders = both.manifest.decoder_roles
    # The decoder counts as a whole: as its last graph.
    monkeypatch.setitem(recipe.RUINED, "decoder", lost[decoders[-1]] + 0.1)
    monkeypatch.setitem(recipe.RUINED, "encoder", lost["encoder"] - 0.1)
    bundle = convert(checkpoint, checkpoint / "t5", tmp_path / "bundle", precisions=("int8",))
    single = {role for role in lost if bundle.manifest.graph(role, "int8").path.startswith("fp32/")}
    assert single == {"number_conditioner", *decoders}
    assert {path.stem for path in (bundle.folder / "int8").glob("*.onnx")} == set(lost) - single
    assert list(bundle.verify())
    assert sao_onnx.load(bundle.folder).generate("rain", seconds=0.5, seed=1).samples.size


def test_a_part_that_misses_its_bound_is_reported(checkpoint, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from sao_onnx.cli import app
    from sao_onnx_convert.quantize import recipe

    monkeypatch.setitem(recipe.MIN_SNR, "dit", 99.0)
    arguments = ["convert", str(checkpoint), "--t5", str(checkpoint / "t5"), "-o", str(tmp_path / "b"), "--precision", "int8"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0
    assert "warning: dit in int8 is" in done.stderr
    assert "wanted 99" in done.stderr


def _run(model: onnx.ModelProto, *, weight_only: bool = False, **inputs: np.ndarray) -> np.ndarray:
    onnx.checker.check_model(model)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.onnx"
        onnx.save(model, path)
        return SessionFactory(1).session(path, weight_only=weight_only).run(None, inputs)[0]


def _product(form, *matrices: np.ndarray) -> onnx.ModelProto:
    graph = GraphBuilder()
    outputs = form(graph, "x", matrices)
    graph.node("Concat", *outputs, output="y", axis=2)
    widths = {"x": matrices[0].shape[0], "y": sum(matrix.shape[1] for matrix in matrices)}
    return graph.model("product", ["x"], ["y"], {name: ("b", "n", width) for name, width in widths.items()})


@pytest.mark.parametrize("form", [row_matmuls, rotated_row_matmuls])
@pytest.mark.parametrize("inputs", [256, 200, 32])
def test_products_in_rows(form, inputs):
    """Rows of very different size, one of them zero, and two products of one input."""
    random = np.random.default_rng(0)
    x = random.standard_normal((2, 20, inputs), dtype=np.float32) * np.logspace(-3, 3, 20, dtype=np.float32)[:, None]
    x[1, 7] = 0
    matrices = [random.standard_normal((inputs, outputs), dtype=np.float32) for outputs in (64, 48)]
    model = _product(form, *matrices)
    wide = [t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT and np.prod(t.dims) > 64 * 64]
    assert not wide
    found, expected = _run(model, x=x), x @ np.concatenate(matrices, axis=1)
    assert not found[1, 7].any()
    for row in range(20):
        assert decibels(expected[0, row], found[0, row]) > 34


def test_a_rotation_spreads_long_tails():
    """A few inputs far larger than the others: 8 bits for them leave few for the rest, unless all are mixed."""
    random = np.random.default_rng(1)
    x = random.standard_normal((1, 20, 256), dtype=np.float32) ** 7
    matrix = random.standard_normal((256, 64), dtype=np.float32)
    plain, mixed = (decibels(x @ matrix, _run(_product(form, matrix), x=x)) for form in (row_matmuls, rotated_row_matmuls))
    assert mixed > plain + 3


def test_hadamard():
    matrix = hadamard(64)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(64), atol=1e-12)
    np.testing.assert_allclose(np.abs(matrix), 1 / 8)


@pytest.mark.parametrize("shape", [(256, 64), (200, 48), (32, 32)])
def test_products_in_blocks(shape):
    random = np.random.default_rng(0)
    weight, x = random.standard_normal(shape, dtype=np.float32), random.standard_normal((1, 40, shape[0]), dtype=np.float32)
    model = _product(float_matmuls, weight)
    quantize_matmuls(model)
    wide = [t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT and np.prod(t.dims) > 2 * shape[1]]
    assert not wide
    assert decibels(x @ weight, _run(model, x=x)) > 38


def test_stored_convolutions():
    random = np.random.default_rng(1)
    weight, x = random.standard_normal((32, 32, 7), dtype=np.float32), random.standard_normal((1, 32, 50), dtype=np.float32)
    graph = GraphBuilder()
    graph.node("Conv", "x", graph.constant(weight), output="y", kernel_shape=[7], pads=[3, 3])
    model = graph.model("conv", ["x"], ["y"], {"x": (1, 32, "n"), "y": (1, 32, "n")})
    expected = _run(model, x=x)
    store_convolutions_in_int8(model)
    assert {tensor.data_type for tensor in model.graph.initializer} == {TensorProto.INT8, TensorProto.FLOAT}
    assert decibels(expected, _run(model, weight_only=True, x=x)) > 38


def test_stored_tables():
    random = np.random.default_rng(2)
    table = random.standard_normal((512, 16), dtype=np.float32) * random.uniform(0.01, 10, (512, 1)).astype(np.float32)
    node = helper.make_node("Gather", ["table", "ids"], ["y"])
    graph = helper.make_graph(
        [node],
        "table",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 16])],
        [numpy_helper.from_array(table, "table")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    store_tables_in_int8(model)
    assert sorted(tensor.data_type for tensor in model.graph.initializer) == [TensorProto.FLOAT, TensorProto.INT8]
    for id in (3, 500):
        assert decibels(table[id], _run(model, ids=np.array([id]))[0]) > 38


@pytest.fixture(scope="module")
def plain_decoder(checkpoint):
    from sao_onnx_convert.family.stable_audio_open.networks.autoencoder import without_parametrization
    from sao_onnx_convert.family.stable_audio_open.pipeline import TorchPipeline

    return without_parametrization(TorchPipeline.load(checkpoint, checkpoint / "t5").model.autoencoder.decoder)


def test_the_observer_sees_ranges_and_means(plain_decoder):
    observer = Observer(plain_decoder)
    with torch.no_grad():
        audio = [plain_decoder(scale * torch.ones(1, 8, 4)) for scale in (1, -2)]
    seen = observer.finish()
    convs = [module for module in plain_decoder.modules() if isinstance(module, torch.nn.Conv1d)]
    expected = torch.cat(audio, dim=2)
    np.testing.assert_allclose(seen[convs[-1]].output.low, expected.amin(dim=(0, 2)))
    np.testing.assert_allclose(seen[convs[-1]].output.high, expected.amax(dim=(0, 2)))
    np.testing.assert_allclose(seen[convs[0]].input.low, -2)
    np.testing.assert_allclose(seen[convs[0]].input.high, 1)
    np.testing.assert_allclose(seen[convs[0]].mean, -0.5)


def _piece(build, inputs: int, outputs: int) -> onnx.ModelProto:
    """A graph of a piece of the decoder: `build` makes a single-precision value of the input `x`."""
    graph = DecoderGraph()
    graph.builder.node("Identity", build(graph), output="y")
    return graph.builder.model("piece", ["x"], ["y"], {"x": (1, inputs, "n"), "y": (1, outputs, "n")})


@pytest.mark.parametrize("offset", [0.0, 3.0])
def test_snake_by_table(offset):
    """A table is as good as its 8 bits, also where values lie far from zero; beyond what was seen it stays at its edge."""
    random = np.random.default_rng(3)
    source = SnakeBeta(4)
    source.alpha.data, source.beta.data = torch.tensor([-1.0, 0.0, 0.5, 1.0]), torch.tensor([0.5, 0.0, -0.5, -1.0])
    snake = Snake(source)
    x = (random.standard_normal((1, 4, 4000)) + offset).astype(np.float32)
    model = torch.nn.Sequential(snake)
    observer = Observer(model)
    exact = model(torch.from_numpy(x)).numpy()
    seen = observer.finish()
    scale = table_scale(seen[snake].input)

    def build(graph: DecoderGraph) -> str:
        x = Scaled(graph.multiplied("x", 1 / scale), scale)
        return graph.dequantized(graph.snake_of_scaled(x, snake, seen[snake].output), np.ones(4)).name

    graph = _piece(build, 4, 4)
    for channel in range(4):
        step = (max(0, exact[0, channel].max()) - min(0, exact[0, channel].min())) / 255
        # Half a step of the result, and what half a step of the index does to it: a slope of at most 1 + αm.
        slope = float(1 + snake.alpha[channel] * snake.magnitude[channel])
        assert np.abs(_run(graph, x=x) - exact)[0, channel].max() < 0.51 * step + slope * scale[channel]
    beyond = _run(graph, x=np.full((1, 4, 1), 1e30, np.float32))
    assert (np.abs(beyond) < 2 * np.abs(exact).max()).all()


def test_rounded_weights_do_not_shift_the_mean():
    """What rounding the weights does to the mean of a product, its bias makes good."""
    random = torch.Generator().manual_seed(4)
    conv = torch.nn.Conv1d(64, 8, 1)
    conv.weight.data = torch.randn(conv.weight.shape, generator=random) * 0.05
    x = torch.rand(1, 64, 2000, generator=random) + 2
    model = torch.nn.Sequential(conv)
    observer = Observer(model)
    with torch.no_grad():
        exact = model(x).numpy()
    seen = observer.finish()

    assert conv.bias is not None
    weight, bias = (parameter.detach().double().numpy() for parameter in (conv.weight, conv.bias))

    def build(graph: DecoderGraph) -> str:
        scale, zero = quantization(seen[conv].input)
        above = graph.builder.node("Sub", "x", graph.channels(seen[conv].input.low))
        constants = [graph.builder.constant(array) for array in (scale.astype(np.float32), np.zeros(64, np.uint8))]
        name = graph.builder.node("QuantizeLinear", above, *constants, axis=1)
        return graph.dequantized(graph.conv(Quantized(name, scale, zero), weight, bias, seen[conv]), np.ones(8)).name

    found = _run(_piece(build, 64, 8), x=x.numpy())
    assert (np.abs(found.mean(axis=2) - exact.mean(axis=2)) < 0.02 * exact.std(axis=2)).all()
