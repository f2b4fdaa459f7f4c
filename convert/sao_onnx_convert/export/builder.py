"""Builds ONNX graphs node by node."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from sao_onnx_convert.export.functions import DOMAIN, MICROSOFT, OPSET, Function, add_functions

__all__ = ["MICROSOFT", "OPSET", "SLICE_END", "Array", "GraphBuilder"]

Array = np.ndarray[Any, np.dtype[Any]]
"""An array of any type and shape."""

SLICE_END = np.iinfo(np.int64).max
"""The end of a slice that goes on to the end of the axis."""

MAX_SHARED_BYTES = 65536
"""Size up to which equal constants are stored once."""


class GraphBuilder:
    """Collects nodes and constants. Every value in a graph is referred to by its name.

    Args:
        prefix: Put before every new name. Needed where the nodes are added to a graph that has names already.
    """

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix
        self._values = 0
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._known: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def constant(self, value: Array) -> str:
        """Add a constant; equal small ones are stored once.

        Returns:
            Its name.
        """
        value = np.asarray(value, order="C")
        if value.nbytes > MAX_SHARED_BYTES:
            return self.own_constant(value)
        key = (value.dtype.str, value.shape, value.tobytes())
        if key not in self._known:
            self._known[key] = self.own_constant(value)
        return self._known[key]

    def own_constant(self, value: Array) -> str:
        """Add a constant that no other node may read.

        Weights of 8-bit matmuls and convolutions and their zero points must be such constants: where ONNX Runtime makes them
        unsigned (session option `session.x64quantprecision`), it does so node by node, and refuses a constant that it has
        already replaced.

        Returns:
            Its name.
        """
        name = f"{self._prefix}constant_{len(self._constants)}"
        self._constants[name] = numpy_helper.from_array(np.asarray(value, order="C"), name)
        return name

    def node(self, operator: str, *inputs: str, output: str | None = None, domain: str = "", **attributes: Any) -> str:
        """Add a node with one output.

        Args:
            operator: Its type.
            *inputs: Names of its inputs, "" for one that is left out.
            output: Name of its output; None for a new one.
            domain: Of the operator; "" for ONNX's own.
            **attributes: Of the node.

        Returns:
            The name of its output.
        """
        output = output or f"{self._prefix}value_{self._values}"
        self._values += 1
        self._nodes.append(helper.make_node(operator, list(inputs), [output], domain=domain, **attributes))
        return output

    def call(self, function: Function, *inputs: str, **attributes: Any) -> list[str]:
        """Add a node that stands for the nodes of a function.

        Args:
            function: What it stands for.
            *inputs: Names of the function's inputs.
            **attributes: Of the function.

        Returns:
            The names of its outputs.
        """
        outputs = [f"{self._prefix}value_{self._values + i}" for i in range(len(function.outputs))]
        self._values += len(outputs)
        self._nodes.append(helper.make_node(function.name, list(inputs), outputs, domain=DOMAIN, **attributes))
        return outputs

    @contextmanager
    def folding(self, function: Function) -> Iterator[None]:
        """Put a call of a function in the place of the nodes that are added in the block, if they are its own."""
        first = len(self._nodes)
        yield
        if call := function.call_for(self._nodes[first:]):
            self._nodes[first:] = [call]

    def take_nodes(self) -> list[onnx.NodeProto]:
        """Remove and return the nodes, in the order in which they were added."""
        taken, self._nodes = self._nodes, []
        return taken

    @property
    def constants(self) -> list[onnx.TensorProto]:
        """All constants."""
        return list(self._constants.values())

    def model(
        self, name: str, inputs: Sequence[str], outputs: Sequence[str], shapes: Mapping[str, tuple[int | str, ...]]
    ) -> onnx.ModelProto:
        """The finished model.

        Args:
            name: Of its graph.
            inputs: Names of the inputs, single precision.
            outputs: Names of the outputs, single precision.
            shapes: Shape of every input and output; a named axis is dynamic.
        """
        described = {n: helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in shapes.items()}
        graph = helper.make_graph(
            self._nodes,
            name,
            [described[n] for n in inputs],
            [described[n] for n in outputs],
            self.constants,
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        add_functions(model)
        return model
