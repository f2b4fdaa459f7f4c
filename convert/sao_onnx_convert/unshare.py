"""Mends a bundle that was converted before 8-bit results were the same on every processor.

    python -m sao_onnx_convert.unshare BUNDLE

Its 8-bit matmuls and convolutions share constants. So ONNX Runtime cannot make weights unsigned where signed ones overflow
(`GraphBuilder.own_constant`). Only the graphs and the manifest are written; the weights stay as they are.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import onnx

from sao_onnx.bundle.bundle import open_bundle
from sao_onnx.bundle.checked import digest
from sao_onnx.errors import SaoOnnxError
from sao_onnx_convert.bundle.writer import write_manifest

OWN_INPUTS = {"MatMulInteger": (1, 3), "MatMulIntegerToFloat": (1, 5), "QLinearConv": (3, 5)}
"""The inputs of each type of 8-bit node that are its weights and their zero points."""


def unshare(folder: Path) -> list[str]:
    """Give every 8-bit matmul and convolution of a bundle weights and zero points of its own.

    Args:
        folder: The bundle. If nothing is shared, nothing is written.

    Returns:
        Paths in the bundle of the graphs that were written.

    Raises:
        BundleError: The folder is no bundle that can be opened.
    """
    bundle = open_bundle(folder)
    written = [path for path in sorted({graph.path for graph in bundle.manifest.graphs}) if _mend(bundle.path(path))]
    if written:
        files = tuple(
            replace(file, size=bundle.path(file.path).stat().st_size, sha256=digest(bundle.path(file.path)))
            if file.path in written
            else file
            for file in bundle.manifest.files
        )
        write_manifest(bundle.folder, replace(bundle.manifest, files=files))
    return written


def unshare_graph(model: onnx.ModelProto) -> bool:
    """Do the same for one graph, in place. Copies of weights in a file are read from the same place in it.

    Returns:
        Whether the graph was changed.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    taken: set[str] = set()
    for node in model.graph.node:
        for position in OWN_INPUTS.get(node.op_type, ()):
            name = node.input[position] if position < len(node.input) else ""
            if name in taken:
                copy = model.graph.initializer.add()
                copy.CopyFrom(constants[name])
                copy.name = f"{name}.{node.output[0]}"
                node.input[position] = copy.name
            elif name in constants:
                taken.add(name)
    return len(model.graph.initializer) > len(constants)


def _mend(path: Path) -> bool:
    model = onnx.load(path, load_external_data=False)
    if not unshare_graph(model):
        return False
    partial = path.with_suffix(".partial")
    onnx.save(model, partial)
    partial.replace(path)
    return True


def main() -> None:
    """Mend the bundle that the command line names."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("bundle", type=Path)
    try:
        written = unshare(arguments.parse_args().bundle)
    except SaoOnnxError as error:
        raise SystemExit(f"error: {error}") from error
    done = (
        f"written: {', '.join(written)}" if written else "nothing to do: no matmul or convolution shares constants with another"
    )
    sys.stdout.write(f"{done}\n")


if __name__ == "__main__":
    main()
