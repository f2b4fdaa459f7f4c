"""Functions in graphs: several nodes under one name, which a library of native operators may replace by one kernel.

A graph with such a function runs everywhere: ONNX Runtime puts its nodes in its place when the graph is opened. Where an
operator of this name and domain is registered (`engine/ops`), it runs instead. Every function is therefore the definition of
its operator: change both, or neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

DOMAIN = "sao_onnx"
"""The domain of the functions."""

VERSION = 1
"""Of the domain. A function that is to compute something else needs the next one, here and in the operators, or operators of
the former version would run in its place: the engine compares versions, and nobody compares what is in a function."""

OPSET = 20
"""Version of ONNX's operators in all graphs but the text encoder's."""

MICROSOFT = "com.microsoft"
"""The domain of ONNX Runtime's own operators."""


@dataclass(frozen=True)
class Function:
    """Nodes under one name.

    Attributes:
        name: In `DOMAIN`.
        inputs: Names of its inputs in the body.
        outputs: Names of its outputs in the body.
        body: Its nodes, in order.
        attributes: Names of its attributes, which its nodes refer to.
        called: Other functions that its nodes call.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    body: tuple[NodeProto, ...]
    attributes: tuple[str, ...] = ()
    called: tuple[Function, ...] = ()

    def proto(self, opset: int) -> onnx.FunctionProto:
        """The function as a model holds it that has this version of ONNX's operators."""
        opsets = [helper.make_opsetid(domain, version) for domain, version in (("", opset), (MICROSOFT, 1), (DOMAIN, VERSION))]
        return helper.make_function(DOMAIN, self.name, self.inputs, self.outputs, self.body, opsets, self.attributes)

    def call_for(self, nodes: Sequence[NodeProto]) -> NodeProto | None:
        """A call of the function that stands for these nodes; None where its own are others.

        Args:
            nodes: In the order of the function's. No other node reads what they compute, but for the outputs.
        """
        names: dict[str, str] = {}
        attributes: dict[str, onnx.AttributeProto] = {}
        if len(nodes) != len(self.body):
            return None
        for own, node in zip(self.body, nodes, strict=True):
            values = {attribute.name: attribute for attribute in node.attribute}
            if (own.op_type, own.domain, len(own.input), len(own.attribute)) != (
                node.op_type,
                node.domain,
                len(node.input),
                len(values),
            ):
                return None
            for inner, outer in zip([*own.input, *own.output], [*node.input, *node.output], strict=True):
                if names.setdefault(inner, outer) != outer:
                    return None
            for attribute in own.attribute:
                if attribute.ref_attr_name:
                    attributes[attribute.ref_attr_name] = values[attribute.name]
                elif values.get(attribute.name) != attribute:
                    return None
        inputs, outputs = ([names[name] for name in ends] for ends in (self.inputs, self.outputs))
        call = helper.make_node(self.name, inputs, outputs, domain=DOMAIN)
        call.attribute.extend(attributes[name] for name in self.attributes)
        return call


ZERO_POINT = 128
"""Of all quantized values: the middle of their range. The operators know it."""

DILATIONS = "dilations"
"""The attribute of convolutions, one whole number."""


def _dilated(node: NodeProto) -> NodeProto:
    """A convolution that is dilated as its function says."""
    node.attribute.append(onnx.AttributeProto(name=DILATIONS, ref_attr_name=DILATIONS, type=onnx.AttributeProto.INTS))
    return node


def _number(name: str, value: float | Sequence[int], dtype: type[np.generic]) -> NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.array(value, dtype), name))


TABLE_STEPS = 512
"""Steps of the tables of `LOOK_UP_STEPS` on each side of zero. Twice as many made no difference."""

LOOK_UP_BYTES = Function(
    "LookUpBytes",
    ("x", "table"),
    ("y",),
    (
        helper.make_node("Cast", ["x"], ["index"], to=TensorProto.INT32),
        helper.make_node("GatherElements", ["table", "index"], ["y"], axis=2),
    ),
)
"""Entries of a table uint8 [b, channels, 256] at an index uint8 [b, channels, n]."""

LOOK_UP_STEPS = Function(
    "LookUpSteps",
    ("x", "table"),
    ("y",),
    (
        _number("least", 1 - TABLE_STEPS, np.float32),
        _number("most", TABLE_STEPS - 1, np.float32),
        helper.make_node("Clip", ["x", "least", "most"], ["clipped"]),
        helper.make_node("Cast", ["clipped"], ["index"], to=TensorProto.INT32),
        helper.make_node("GatherElements", ["table", "index"], ["y"], axis=2),
    ),
)
"""Entries of a table uint8 [b, channels, 1024] for a value float32 [b, channels, n] in steps of the table, truncated. An
index below zero counts from the table's end; values beyond the table read its edge."""

CONVOLVE_BYTES = Function(
    "ConvolveBytes",
    ("x", "weights", "factors", "biases"),
    ("y",),
    (
        _number("one", 1, np.float32),
        _number("zero", ZERO_POINT, np.uint8),
        _number("weights_zero", 0, np.int8),
        _dilated(
            helper.make_node(
                "QLinearConv",
                ["x", "one", "zero", "weights", "factors", "weights_zero", "one", "zero", "biases"],
                ["y"],
                # In this domain ONNX Runtime leaves the weights signed where it makes others unsigned. These cannot overflow.
                domain=MICROSOFT,
            )
        ),
    ),
    attributes=(DILATIONS,),
)
"""A convolution without padding of uint8 [b, inputs, n] around 128, with int8 weights [outputs, inputs, kernel], constants.

The result is uint8 around 128, `factors` [outputs] times the sum of products and `biases` int32 [outputs]. No two
neighbouring weights overflow (`quantize.overflow`).
"""

MULTIPLY_BYTES = Function(
    "MultiplyBytes",
    ("x", "weights", "scales"),
    ("y",),
    (
        _number("one", 1, np.float32),
        _number("zero", ZERO_POINT, np.uint8),
        _number("weights_zero", 0, np.int8),
        helper.make_node(
            "MatMulIntegerToFloat", ["x", "weights", "one", "scales", "zero", "weights_zero"], ["y"], domain=MICROSOFT
        ),
    ),
)
"""The product of uint8 [..., inputs] around 128 and int8 weights [inputs, outputs], times `scales` [outputs], float32."""

RESIDUAL_UNIT = Function(
    "ResidualUnit",
    (
        *("x", "steps", "edges", "dilated", "dilated_factors", "dilated_biases"),
        *("bytes", "pointwise", "pointwise_factors", "pointwise_biases", "scale", "zero"),
    ),
    ("y",),
    (
        helper.make_node("LookUpSteps", ["x", "steps"], ["first"], domain=DOMAIN),
        helper.make_node("Concat", ["edges", "first", "edges"], ["padded"], axis=2),
        _dilated(
            helper.make_node(
                "ConvolveBytes", ["padded", "dilated", "dilated_factors", "dilated_biases"], ["inner"], domain=DOMAIN
            )
        ),
        helper.make_node("LookUpBytes", ["inner", "bytes"], ["second"], domain=DOMAIN),
        helper.make_node(
            "ConvolveBytes",
            ["second", "pointwise", "pointwise_factors", "pointwise_biases"],
            ["outer"],
            domain=DOMAIN,
            dilations=[1],
        ),
        helper.make_node("DequantizeLinear", ["outer", "scale", "zero"], ["residual"], axis=1),
        helper.make_node("Add", ["x", "residual"], ["y"]),
    ),
    attributes=(DILATIONS,),
    called=(LOOK_UP_STEPS, CONVOLVE_BYTES, LOOK_UP_BYTES),
)
"""A residual unit of the decoder: a value float32 [b, channels, n] in steps of the table `steps`, and what two Snakes and two
convolutions make of it, added in the same steps.

`edges` [b, channels, frames] are put on both sides of what the first Snake gives, and make up for the reach of the dilated
convolution. The pointwise one has one tap. `scale` and `zero` are those of its result, one for each channel.
"""

_QUANTIZE = (
    _number("axes", [-1], np.int64),
    helper.make_node("Abs", ["x"], ["magnitude"]),
    helper.make_node("ReduceMax", ["magnitude", "axes"], ["found"], keepdims=1),
    helper.make_node("Max", ["found", "least"], ["largest"]),
    helper.make_node("Div", ["x", "largest"], ["relative"]),
    _number("zero", ZERO_POINT, np.uint8),
    helper.make_node("QuantizeLinear", ["relative", "step", "zero"], ["quantized"]),
)

QUANTIZE_ROWS = Function("QuantizeRows", ("x", "least", "step"), ("quantized", "largest"), _QUANTIZE)
"""Values float32 [..., n], divided by the largest magnitude of their row, at least `least`, and quantized around 128.

The outputs are uint8 [..., n] and the largest values float32 [..., 1]. With NaN in a row, the operator's largest value is NaN;
`ReduceMax` gives NaN or not, by its place in the row.
"""

QUANTIZE_GATED_ROWS = Function(
    "QuantizeGatedRows",
    ("value", "gate", "scale", "value_bias", "gate_bias", "least", "step", "rotation"),
    ("quantized", "largest"),
    (
        helper.make_node("Mul", ["value", "scale"], ["scaled_value"]),
        helper.make_node("Mul", ["gate", "scale"], ["scaled_gate"]),
        helper.make_node("Add", ["scaled_value", "value_bias"], ["biased_value"]),
        helper.make_node("Add", ["scaled_gate", "gate_bias"], ["biased_gate"]),
        helper.make_node("QuickGelu", ["biased_gate"], ["activated"], domain=MICROSOFT, alpha=1.0),
        helper.make_node("Mul", ["biased_value", "activated"], ["hidden"]),
        _number("groups", [0, 0, -1, 64], np.int64),
        helper.make_node("Reshape", ["hidden", "groups"], ["apart"]),
        helper.make_node("MatMul", ["apart", "rotation"], ["rotated"]),
        _number("joined", [0, 0, -1], np.int64),
        helper.make_node("Reshape", ["rotated", "joined"], ["x"]),
        *_QUANTIZE,
    ),
)
"""The gate of a feed-forward between its two 8-bit matmuls, rotated and quantized.

`value` and `gate` are float32 [b, n, width], results of a matmul that `scale` [b, n, 1] and the biases [width] belong to;
`rotation` is the Hadamard matrix of 64: the native operator multiplies by no other, and refuses a graph that has one.
The outputs are those of `QUANTIZE_ROWS`.
"""

FUNCTIONS = {
    function.name: function
    for function in (
        LOOK_UP_BYTES,
        LOOK_UP_STEPS,
        CONVOLVE_BYTES,
        MULTIPLY_BYTES,
        RESIDUAL_UNIT,
        QUANTIZE_ROWS,
        QUANTIZE_GATED_ROWS,
    )
}
"""All functions, by name."""


def add_functions(model: onnx.ModelProto) -> None:
    """Add to a model, in place, the functions that its nodes call and that it does not have yet."""
    called = {node.op_type for node in model.graph.node if node.domain == DOMAIN}
    called |= {inner.name for name in called for inner in FUNCTIONS[name].called}
    called -= {function.name for function in model.functions}
    (opset,) = (entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    model.functions.extend(FUNCTIONS[name].proto(opset) for name in sorted(called))
    if called and all(opset.domain != DOMAIN for opset in model.opset_import):
        model.opset_import.append(helper.make_opsetid(DOMAIN, VERSION))
