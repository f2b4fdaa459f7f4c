"""The miniature with more number conditioners, as some fine-tunes have them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from sao_onnx.bundle.checked import digest

NUMBERS = {"seconds_total": (0.0, 256.0), "bpm": (60.0, 200.0), "swing": (0.0, 1.0)}


def write_numbered(miniature: Path, folder: Path) -> Path:
    """A copy of the miniature's bundle whose token of the length also depends on two other numbers."""
    import onnx

    shutil.copytree(miniature, folder)
    path = folder / "fp32" / "number_conditioner.onnx"
    model = onnx.load(path)
    graph = model.graph
    (token,) = graph.output
    graph.node[-1].output[0] = "own"
    shape = onnx.numpy_helper.from_array(np.array([-1, 1, 1], np.int64), "shape")
    width = onnx.numpy_helper.from_array(np.zeros((1, 1, token.type.tensor_type.shape.dim[2].dim_value), np.float32), "zeros")
    graph.initializer.extend([shape, width])
    added = ["own"]
    for name, (low, high) in list(NUMBERS.items())[1:]:
        scale = onnx.numpy_helper.from_array(np.array(1 / (high - low), np.float32), f"{name}_scale")
        graph.initializer.append(scale)
        graph.input.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch"]))
        graph.node.extend(
            [
                onnx.helper.make_node("Reshape", [name, "shape"], [f"{name}_column"]),
                onnx.helper.make_node("Mul", [f"{name}_column", scale.name], [f"{name}_scaled"]),
                onnx.helper.make_node("Add", [f"{name}_scaled", "zeros"], [f"{name}_embedding"]),
            ]
        )
        other = onnx.ValueInfoProto()
        other.CopyFrom(token)
        other.name = f"{name}_embedding"
        graph.output.append(other)
        added.append(other.name)
    graph.node.append(onnx.helper.make_node("Sum", added, [token.name]))
    onnx.save(model, path, save_as_external_data=True, location=f"{path.name}.data", size_threshold=100)
    _describe(folder)
    return folder


def _describe(folder: Path) -> None:
    path = folder / "manifest.json"
    manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    manifest["conditioning"]["numbers"] = [
        {"id": name, "minimum": low, "maximum": high} for name, (low, high) in NUMBERS.items()
    ]
    for graph in manifest["graphs"]:
        if graph["role"] == "number_conditioner":
            graph["inputs"] = [graph["inputs"][0] | {"name": name} for name in NUMBERS]
            graph["outputs"] = [graph["outputs"][0] | {"name": f"{name}_embedding"} for name in NUMBERS]
    describe_files(folder, manifest)


def describe_files(folder: Path, manifest: dict[str, Any]) -> None:
    """Write a manifest with the present sizes and digests of its files."""
    for file in manifest["files"]:
        place = folder / file["path"]
        file |= {"size": place.stat().st_size, "sha256": digest(place)}
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
