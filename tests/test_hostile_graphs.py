"""Graphs that do not do what their manifest says: whatever they do, the error is one of ours, and in one line.

A graph is a program. It can run for ever and take memory, and nothing here keeps it from that.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

import sao_onnx
from sao_onnx.bundle.bundle import open_bundle
from sao_onnx.bundle.manifest import Graph, Role
from sao_onnx.errors import BundleError, GraphError, NumericalError, SaoOnnxError
from sao_onnx.runtime.sessions import GraphSession, SessionFactory

TYPES = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}


def _values(tensors):
    return [helper.make_tensor_value_info(tensor.name, TYPES[tensor.dtype], None) for tensor in tensors]


def _model(graph: Graph, nodes, constants) -> bytes:
    """A graph with the names and types of another one."""
    made = helper.make_graph(nodes, "hostile", _values(graph.inputs), _values(graph.outputs), constants)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def _filled(graph: Graph, shape, value=0.5) -> bytes:
    """A graph whose outputs all have a shape, which ONNX Runtime cannot know before it runs."""
    first = graph.inputs[0].name
    constants = [
        helper.make_tensor("shape", TensorProto.INT64, [len(shape)], shape),
        helper.make_tensor("zero", TensorProto.INT64, [], [0]),
    ]
    nodes = [
        helper.make_node("Size", [first], ["size"]),
        helper.make_node("Mul", ["size", "zero"], ["nothing"]),
        helper.make_node("Add", ["shape", "nothing"], ["wanted"]),
    ]
    fill = helper.make_tensor("value", TensorProto.FLOAT, [1], [value])
    nodes += [helper.make_node("ConstantOfShape", ["wanted"], [tensor.name], value=fill) for tensor in graph.outputs]
    return _model(graph, nodes, constants)


def _generate(bundle: Path, verify: bool = False) -> sao_onnx.Clip:
    engine = sao_onnx.load(bundle, precision="fp32", threads=1, verify=verify)
    audio = (np.zeros((2, 4000), np.float32), 44100)
    return engine.generate("kick", seconds=1, steps=1, seed=1, init_audio=audio, cfg_scale=2.0)


def _replace(bundle: Path, role: Role, make) -> None:
    """Put another graph in the place of one, of which the manifest knows the size and not the digest."""
    manifest = open_bundle(bundle).manifest
    entry = manifest.graph(role, "fp32")
    data = make(entry)
    (bundle / entry.path).write_bytes(data)
    files = tuple(replace(file, size=len(data)) if file.path == entry.path else file for file in manifest.files)
    (bundle / "manifest.json").write_text(replace(manifest, files=files).to_json())


SHAPES = [
    # A window has 344 latents, and a prompt 65 tokens with the number's.
    ("text_encoder", (1, 99, 32)),
    ("text_encoder", (1, 3)),
    ("text_encoder", ()),
    ("number_conditioner", (1, 2, 32)),
    ("number_conditioner", (0, 1, 32)),
    ("context", (2, 2, 64, 64)),
    ("context", (2, 1, 65, 64)),
    ("dit", (2, 8, 343)),
    ("dit", (1, 8, 344)),
    ("dit", (2, 8, 344, 1)),
    ("encoder", (1, 8, 343)),
    ("encoder", (1, 8, 344 * 512)),
    ("encoder", (1, 8, 0)),
    ("decoder_1", (1, 8, 3)),
    ("decoder_1", (1, 8, 0)),
    ("decoder_1", (1, 8, 344 * 16 + 1)),
    ("decoder_2", (1, 4, 1)),
    ("decoder_3", (1, 2, 1)),
    ("decoder_3", (1, 2, 0)),
    ("decoder_3", (1, 1, 1000)),
    ("decoder_3", (7,)),
]


@pytest.mark.parametrize(("role", "shape"), SHAPES)
def test_outputs_of_another_shape(bundle, role, shape):
    _replace(bundle, role, lambda graph: _filled(graph, shape))
    with pytest.raises(GraphError, match=rf"{role}: .*(promises|expected).*sao-onnx verify") as caught:
        _generate(bundle)
    assert str(caught.value).isprintable()


def _out_of_range(graph: Graph) -> bytes:
    """Reads beyond the end of a constant."""
    first = graph.inputs[0]
    index = helper.make_tensor("index", TensorProto.INT64, [1], [10**6])
    nodes = [
        helper.make_node("Shape", [first.name], ["shape"]),
        helper.make_node("Gather", ["shape", "index"], ["found"]),
        *[helper.make_node("Cast", ["found"], [tensor.name], to=TensorProto.FLOAT) for tensor in graph.outputs],
    ]
    return _model(graph, nodes, [index])


def _misshapen(graph: Graph) -> bytes:
    """Reshapes what does not fit, at a node whose name would write over the terminal."""
    nodes = [
        helper.make_node("Reshape", [graph.inputs[0].name, "shape"], [graph.outputs[0].name], name="\x1b[2J\x07\r\nfake"),
        *[helper.make_node("Identity", [graph.outputs[0].name], [tensor.name]) for tensor in graph.outputs[1:]],
    ]
    return _model(graph, nodes, [helper.make_tensor("shape", TensorProto.INT64, [2], [-1, 1_000_003])])


@pytest.mark.parametrize("role", ["text_encoder", "context", "dit", "encoder", "decoder_1", "decoder_2", "decoder_3"])
@pytest.mark.parametrize("make", [_out_of_range, _misshapen])
def test_graphs_that_fail(bundle, role, make):
    if (role, make) == ("text_encoder", _misshapen):
        pytest.skip("its input is of another type than its output")
    _replace(bundle, role, make)
    with pytest.raises(GraphError, match=rf"{role} failed while it ran.*sao-onnx verify") as caught:
        _generate(bundle)
    assert len(str(caught.value)) < 500
    assert isinstance(caught.value, RuntimeError)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite(bundle, value):
    _replace(bundle, "dit", lambda graph: _filled(graph, (2, 8, 344), value))
    with pytest.raises(NumericalError, match="dit returned NaN or infinite values in velocity"):
        _generate(bundle)


def test_a_graph_that_wants_all_memory(bundle):
    _replace(bundle, "dit", lambda graph: _filled(graph, (2**20, 2**20, 2**20)))
    with pytest.raises(SaoOnnxError):
        _generate(bundle)


def _unknown_operator(graph: Graph) -> bytes:
    """Needs an operator of somebody's own library, which is not loaded."""
    node = helper.make_node("Evil", [graph.inputs[0].name], [tensor.name for tensor in graph.outputs], domain="evil")
    made = helper.make_graph([node], "hostile", _values(graph.inputs), _values(graph.outputs))
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("evil", 1)]
    return helper.make_model(made, opset_imports=imports, ir_version=8).SerializeToString()


CONTENTS = {
    "empty": lambda graph: b"",
    "zero bytes": lambda graph: b"\0" * 100,
    "noise": lambda graph: np.random.default_rng(0).bytes(5000),
    "text": lambda graph: b"<!DOCTYPE html>\n<html>",
    "deep": lambda graph: b"\x3a\xff\x7f" * 10_000,
    "a name that is not UTF-8": lambda graph: _filled(graph, (1,)).replace(b"velocity", b"veloc\xe5ty"),
    "another operator": _unknown_operator,
    "from the future": lambda graph: helper.make_model(
        helper.make_graph([], "g", [], []), opset_imports=[helper.make_opsetid("", 9999)], ir_version=9999
    ).SerializeToString(),
    "no inputs": lambda graph: helper.make_model(
        helper.make_graph(
            [helper.make_node("Identity", ["c"], ["velocity"])],
            "g",
            [],
            _values(graph.outputs),
            [helper.make_tensor("c", TensorProto.FLOAT, [1], [1.0])],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    ).SerializeToString(),
}


@pytest.mark.parametrize("make", CONTENTS.values(), ids=CONTENTS)
def test_what_cannot_be_loaded(bundle, make, capfd):
    _replace(bundle, "dit", make)
    with pytest.raises(BundleError, match=r"dit\.onnx") as caught:
        _generate(bundle)
    assert len(str(caught.value)) < 1000
    assert capfd.readouterr() == ("", "")
    with pytest.raises(BundleError, match=r"dit\.onnx is damaged"):
        _generate(bundle, verify=True)


def _reading(graph: Graph, location: str, where: str) -> bytes:
    """A graph with weights in a file."""
    weights = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "0"), ("length", "16")):
        weights.external_data.add(key=key, value=value)
    if where == "a constant":
        nodes = [helper.make_node("Constant", [], ["w"], value=weights)]
        nodes[0].attribute[0].t.CopyFrom(weights)
    else:
        nodes = []
    nodes += [helper.make_node("Identity", ["w"], [tensor.name]) for tensor in graph.outputs]
    made = helper.make_graph(
        nodes, "hostile", _values(graph.inputs), _values(graph.outputs), [] if where == "a constant" else [weights]
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


@pytest.mark.parametrize("where", ["an initializer", "a constant"])
@pytest.mark.parametrize(
    "location", ["../../secret", "{absolute}", "sub/../../../secret", "link", "folder/secret", "/dev/zero"]
)
def test_a_graph_reads_no_file_outside_of_its_folder(bundle, tmp_path, location, where):
    secret = tmp_path / "secret"
    secret.write_bytes(np.ones(4, np.float32).tobytes())
    (bundle / "fp32" / "link").symlink_to(secret)
    (bundle / "fp32" / "folder").symlink_to(tmp_path)
    opened = open_bundle(bundle)
    entry = opened.manifest.graph("dit", "fp32")
    path = bundle / entry.path
    # It can be opened with weights beside it.
    (bundle / "fp32" / "beside").write_bytes(secret.read_bytes())
    path.write_bytes(_reading(entry, "beside", where))
    SessionFactory(1).session(path)
    path.write_bytes(_reading(entry, location.format(absolute=secret), where))
    with pytest.raises(BundleError, match="cannot load"):
        GraphSession(SessionFactory(1), path, entry)


def test_a_graph_reads_no_memory_of_the_process(bundle):
    """Older releases of ONNX Runtime took an address for the place of weights, and ended with a crash."""
    entry = open_bundle(bundle).manifest.graph("dit", "fp32")
    (bundle / entry.path).write_bytes(_reading(entry, "*/_ORT_MEM_ADDR_/*", "an initializer"))
    with pytest.raises(BundleError, match="cannot load"):
        GraphSession(SessionFactory(1), bundle / entry.path, entry)


def test_every_kind_of_damage_to_a_graph(bundle):
    """Bits turned over at random places in graphs and weights never become sound."""
    draw = np.random.default_rng(1)
    for name in ("fp32/dit.onnx", "fp32/decoder_2.onnx", "fp32/text_encoder.onnx.data", "fp32/encoder.onnx.data"):
        path = bundle / name
        whole = path.read_bytes()
        for _ in range(3):
            damaged = bytearray(whole)
            damaged[draw.integers(len(whole))] ^= 1 << int(draw.integers(8))
            path.write_bytes(damaged)
            with pytest.raises(BundleError, match=f"{name} is damaged"):
                _generate(bundle, verify=True)
        path.write_bytes(whole)
