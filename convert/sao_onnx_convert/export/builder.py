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
    """Collects nodes and constants; every value is known by its name.

    Args:
        prefix: Of its names, where the nodes go into a graph that has names of its own.
    """

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix
        self._values = 0
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

        Weights and weight zero points of 8-bit products are such: where ONNX Runtime itself makes them unsigned (the session
        option `session.x64quantprecision`), it does so node by node, and refuses a constant that it has replaced before.
        """
        name = f"{self._prefix}constant_{len(self._constants)}"
        self._constants[name] = numpy_helper.from_array(np.asarray(value, order="C"), name)
        return name

    def node(self, operator: str, *inputs: str, output: str | None = None, domain: str = "", **attributes: Any) -> str:
        """Add a node; the name of its output."""
        output = output or f"{self._prefix}value_{self._values}"
        self._values += 1
        self._nodes.append(helper.make_node(operator, list(inputs), [output], domain=domain, **attributes))
        return output

    def take_nodes(self) -> list[onnx.NodeProto]:
        """The nodes that were added since they were last taken."""
        taken, self._nodes = self._nodes, []
        return taken

    @property
    def constants(self) -> list[onnx.TensorProto]:
        """All constants."""
        return list(self._constants.values())

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
            self.constants,
        )
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)], ir_version=10
        )
