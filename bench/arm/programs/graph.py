"""Opens one 8-bit graph of a bundle and runs it so many times on random values, on one thread.

python graph.py BUNDLE ROLE RUNS
"""

from __future__ import annotations

import sys

from bench.operators import graph_inputs
from sao_onnx.bundle.bundle import open_bundle
from sao_onnx.bundle.manifest import Role
from sao_onnx.runtime.sessions import GraphSession, SessionFactory


def main(folder: str, role: Role, runs: int) -> None:
    """Do it."""
    bundle = open_bundle(folder, verify=False)
    graph = bundle.manifest.graph(role, "int8")
    session = GraphSession(SessionFactory(1), bundle.path(graph.path), graph)
    inputs = graph_inputs(bundle, role)
    for _ in range(runs):
        session.run(**inputs)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))  # type: ignore[arg-type]
