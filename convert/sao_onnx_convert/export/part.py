"""A part of a model that becomes one graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sao_onnx.bundle.manifest import Role

Sample = Callable[[int, int, torch.Generator], dict[str, Tensor]]
"""Makes random inputs by name, for a batch size and a length of the dynamic axis."""


@dataclass(frozen=True)
class Part:
    """A part of a model that becomes one graph.

    Attributes:
        role: What the graph is for.
        module: The torch module, or a method of one, that the graph must compute. It takes the inputs in the order of `sample`.
        export: Writes the graph to a path.
        outputs: Names of the outputs, in the order in which the module returns them.
        sample: Random inputs, in the order in which the module takes them.
    """

    role: Role
    module: Callable[..., Any]
    export: Callable[[Path], None]
    outputs: tuple[str, ...]
    sample: Sample
