"""Writes bundles: the only place that makes a manifest."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import onnx

from sao_onnx.bundle.bundle import MANIFEST, digest
from sao_onnx.bundle.manifest import DType, File, FileRole, Graph, Manifest, Precision, Role, Tensor
from sao_onnx_convert.errors import ConversionError, TargetExistsError

_DTYPES: dict[int, DType] = {onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.INT64: "int64"}


def staging_folder(target: Path) -> Path:
    """The folder beside the target in which this process builds a bundle."""
    return target.absolute().with_name(f".{target.name}.{os.getpid()}.partial")


@contextlib.contextmanager
def staged(target: Path, force: bool) -> Iterator[Path]:
    """A new folder that becomes the target when the block ends, and vanishes when it fails.

    Args:
        target: The bundle to be.
        force: Replace an existing bundle. Another folder is never replaced.

    Raises:
        TargetExistsError: The target exists.
    """
    require_free(target, force)
    folder = staging_folder(target)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir()
        yield folder
        if target.exists():
            retired = folder.with_suffix(".retired")
            target.rename(retired)
            folder.rename(target)
            shutil.rmtree(retired)
        else:
            folder.rename(target)
    except OSError as error:
        raise ConversionError(f"{target} cannot be written: {error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def require_free(target: Path, force: bool) -> None:
    """Refuse a target that must not be replaced.

    Raises:
        TargetExistsError: It exists, and is not a bundle or `force` is not set.
    """
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not (target / MANIFEST).is_file():
        raise TargetExistsError(f"{target} exists and is not a bundle; choose another name")
    if not force:
        raise TargetExistsError(f"{target} exists; use --force (force=True) to replace it")


def describe_graph(
    folder: Path,
    path: Path,
    role: Role,
    precision: Precision,
    *,
    max_error: float,
    snr: float,
    tolerance: float | None = None,
    min_snr: float | None = None,
) -> Graph:
    """The manifest's entry for a graph in a bundle's folder."""
    model = onnx.load(path, load_external_data=False)
    weights = {
        entry.value
        for tensor in model.graph.initializer
        for entry in tensor.external_data
        if tensor.data_location == onnx.TensorProto.EXTERNAL and entry.key == "location"
    }
    return Graph(
        role=role,
        precision=precision,
        path=path.relative_to(folder).as_posix(),
        weights=tuple(sorted((path.parent / name).relative_to(folder).as_posix() for name in weights)),
        inputs=tuple(map(_tensor, model.graph.input)),
        outputs=tuple(map(_tensor, model.graph.output)),
        max_error=max_error,
        snr=snr,
        tolerance=tolerance,
        min_snr=min_snr,
    )


def _tensor(value: onnx.ValueInfoProto) -> Tensor:
    tensor = value.type.tensor_type
    shape = tuple(axis.dim_param or axis.dim_value for axis in tensor.shape.dim)
    return Tensor(value.name, _DTYPES[tensor.elem_type], shape)


def describe_files(folder: Path, roles: dict[str, FileRole]) -> tuple[File, ...]:
    """The manifest's entries for files in a bundle's folder, with sizes and digests."""
    return tuple(
        File(path, role, (folder / path).stat().st_size, digest(folder / path)) for path, role in sorted(roles.items())
    )


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `manifest.json`, and let whoever may read it read the rest: some libraries write for the owner alone."""
    path = folder / MANIFEST
    path.write_text(manifest.to_json(), encoding="utf-8")
    for file in manifest.files:
        (folder / file.path).chmod(path.stat().st_mode)
