"""Builds ONNX graphs node by node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray[Any, np.dtype[Any]]

OPSET = 20
MICROSOFT = "com.microsoft"
"""The domain of ONNX Runtime's own operators."""

SHARED = 65536
"""Bytes up to which equal constants are stored once."""


class GraphBuilder:
    """Collects nodes and constants; every value is known by its name."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._known: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def constant(self, value: Array) -> str:
        """A constant; equal small ones are stored once."""
        value = np.asarray(value, order="C")
        if value.nbytes > SHARED:
            return self.own_constant(value)
        key = (value.dtype.str, value.shape, value.tobytes())
        if key not in self._known:
            self._known[key] = self.own_constant(value)
        return self._known[key]

    def own_constant(self, value: Array) -> str:
        """A constant that no other node reads.

        Weights and weight zero points of 8-bit products must be such: where ONNX Runtime makes them unsigned (the session option
        `session.x64quantprecision`), it does so node by node, and refuses a constant that it has replaced before.
        """
        name = f"constant_{len(self._constants)}"
        self._constants[name] = numpy_helper.from_array(np.asarray(value, order="C"), name)
        return name

    def node(self, operator: str, *inputs: str, output: str | None = None, domain: str = "", **attributes: Any) -> str:
        """Add a node; the name of its output."""
        output = output or f"value_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, list(inputs), [output], domain=domain, **attributes))
        return output

    def model(
        self, name: str, inputs: Sequence[str], outputs: Sequence[str], shapes: Mapping[str, tuple[int | str, ...]]
    ) -> onnx.ModelProto:
        """The model, with single-precision inputs and outputs of the given shapes."""
        described = {n: helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in shapes.items()}
        graph = helper.make_graph(
            self._nodes,
            name,
            [described[n] for n in inputs],
            [described[n] for n in outputs],
            list(self._constants.values()),
        )
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)], ir_version=10
        )
