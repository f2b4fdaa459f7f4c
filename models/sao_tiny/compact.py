"""Makes a bundle in 8 bits smaller: what it computes in single precision keeps its weights in half precision.

    python -m models.sao_tiny.compact BUNDLE

The autoencoder is such a part: in 8 bits it would lose more than the converter allows, and its weights would be half of the
bundle. A `Cast` widens each of them. ONNX Runtime folds it when it loads a graph, so that a clip takes as long as before.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.sao_tiny.data import unseen_sound
from models.sao_tiny.kind_classifier import FIRST
from models.sao_tiny.requests import KINDS, render
from sao_onnx.bundle.bundle import open_bundle
from sao_onnx.bundle.manifest import FileRole, Graph
from sao_onnx.runtime.sessions import SessionFactory
from sao_onnx_convert.bundle.description import describe_files, describe_graph
from sao_onnx_convert.bundle.writer import write_manifest
from sao_onnx_convert.export.checks import Closeness, compare
from sao_onnx_convert.export.modules import MIN_EXTERNAL_BYTES, save
from sao_onnx_convert.quantize.recipe import MIN_SNR

Array = np.ndarray[Any, np.dtype[Any]]

SOUNDS = 4
"""On which the graphs are compared with what they were."""


def compact(folder: Path) -> list[Graph]:
    """Store the weights of a bundle's autoencoder in half precision, where its precision "int8" has it in single precision.

    Args:
        folder: The bundle, changed in place. What belongs to no graph of "int8" is removed.

    Returns:
        The graphs that were written.
    """
    bundle = open_bundle(folder)
    before = [graph for graph in bundle.manifest.graphs if graph.precision == "int8"]
    roles = ["encoder", *bundle.manifest.decoder_roles]
    written: dict[str, Path] = {}
    for graph in before:
        model = onnx.load(bundle.path(graph.path))
        if graph.role in roles and store_in_half_precision(model):
            written[graph.role] = folder / "int8" / f"{graph.role}.half.onnx"
            save(model, written[graph.role])
    paths = {graph.role: bundle.path(graph.path) for graph in before}
    found = closeness([paths[role] for role in roles], [written.get(role, paths[role]) for role in roles])
    losses = dict(zip(roles, found, strict=True))
    graphs = tuple(
        describe_graph(
            folder,
            written[graph.role],
            graph.role,
            "int8",
            losses[graph.role],
            min_snr=MIN_SNR["encoder" if graph.role == "encoder" else "decoder"],
        )
        if graph.role in written
        else graph
        for graph in before
    )
    roles_of_files: dict[str, FileRole] = {
        file.path: file.role for file in bundle.manifest.files if file.role not in ("graph", "weights")
    }
    for graph in graphs:
        roles_of_files |= {graph.path: "graph", **dict.fromkeys(graph.weights, "weights")}
    write_manifest(folder, replace(bundle.manifest, graphs=graphs, files=describe_files(folder, roles_of_files)))
    for file in bundle.manifest.files:
        if file.path not in roles_of_files:
            (folder / file.path).unlink()
    open_bundle(folder)
    return [graph for graph in graphs if graph.role in written]


def store_in_half_precision(model: onnx.ModelProto) -> int:
    """Keep large weights of single precision in half precision, in place; how many these are."""
    graph = model.graph
    widened: list[onnx.NodeProto] = []
    for tensor in list(graph.initializer):
        values = numpy_helper.to_array(tensor)
        if tensor.data_type != TensorProto.FLOAT or values.nbytes < MIN_EXTERNAL_BYTES:
            continue
        graph.initializer.remove(tensor)
        graph.initializer.append(numpy_helper.from_array(values.astype(np.float16), f"{tensor.name}.half"))
        widened.append(helper.make_node("Cast", [f"{tensor.name}.half"], [tensor.name], to=TensorProto.FLOAT))
    following = list(graph.node)
    del graph.node[:]
    graph.node.extend([*widened, *following])
    return len(widened)


def closeness(before: Sequence[Path], after: Sequence[Path]) -> list[Closeness]:
    """How close graphs, each on what the one before it made, are to what they were: the worst of `SOUNDS` sounds.

    Args:
        before: The encoder and the decoder's graphs, as they were.
        after: The same, as they are.
    """
    factory = SessionFactory()
    pairs = [[factory.session(path, weight_only=True) for path in pair] for pair in zip(before, after, strict=True)]
    worst = [Closeness(0.0, np.inf)] * len(pairs)
    for index in range(SOUNDS):
        rng, sound = unseen_sound(FIRST + index, KINDS[index % len(KINDS)])
        expected = found = render(rng, sound)[None]
        for stage, (old, new) in enumerate(pairs):
            # The encoder's first output are means, which are what the decoder gets.
            (expected, *_), (found, *_) = (
                session.run(None, {session.get_inputs()[0].name: x}) for session, x in ((old, expected), (new, found))
            )
            here = compare(found, expected)
            worst[stage] = Closeness(max(worst[stage].max_error, here.max_error), min(worst[stage].snr, here.snr))
    return worst


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Keep the weights of a bundle's autoencoder in half precision.")
    parser.add_argument("bundle", type=Path)
    for graph in compact(parser.parse_args().bundle):
        print(f"{graph.path}: {graph.snr:.1f} dB")


if __name__ == "__main__":
    main()
