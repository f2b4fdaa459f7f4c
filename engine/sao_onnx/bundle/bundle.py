"""A bundle on disk: the folder that the converter writes and that the engine runs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sao_onnx.bundle.manifest import Graph, Manifest, Precision, StageName
from sao_onnx.bundle.manifest_json import canonical_json, parse_manifest
from sao_onnx.errors import BundleError, BundleNotFoundError

MANIFEST = "manifest.json"
"""Name of the manifest's file in the bundle's folder."""


@dataclass(frozen=True)
class Bundle:
    """A folder with a manifest that has been checked.

    Attributes:
        folder: The bundle's folder.
        manifest: Its manifest.
    """

    folder: Path
    manifest: Manifest

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that identify the bundle: the start of the SHA-256 digest of its manifest's content.

        Copies of a bundle have the same fingerprint. Files that were saved with a clip's settings and saved tunings refer to
        it, so it must not change from release to release; see `canonical_json`.
        """
        return hashlib.sha256(canonical_json(self.manifest).encode()).hexdigest()[:12]

    def path(self, name: str) -> Path:
        """Absolute path of a file that the manifest lists."""
        return self.folder / name

    def precision(self, wanted: str | None) -> Precision:
        """The precision to run.

        Args:
            wanted: Name of a precision; None for the preferred one of those that the bundle has.

        Raises:
            BundleError: The bundle does not have every graph in the wanted precision.
        """
        held = self.manifest.precisions
        if wanted is None:
            return held[0]
        for precision in held:
            if precision == wanted:
                return precision
        raise BundleError(f"{self.folder} holds {', '.join(held)}, not {wanted!r}; convert it again with --precision {wanted}")

    @property
    def size(self) -> int:
        """Size of all files of the bundle but the manifest, in bytes."""
        return sum(file.size for file in self.manifest.files)

    def weight(self, graph: Graph) -> int:
        """Size of a graph with its weights on disk, in bytes."""
        sizes = {file.path: file.size for file in self.manifest.files}
        return sum(sizes[path] for path in (graph.path, *graph.weights))

    def stage_weight(self, stage: StageName, precision: Precision) -> int:
        """Size of all graphs of a stage with their weights on disk, in bytes.

        Raises:
            BundleError: The bundle does not have the stage in this precision.
        """
        return sum(self.weight(self.manifest.graph(role, precision)) for role in self.manifest.stage_roles(stage))

    def verify(self) -> Iterator[str]:
        """Compare the SHA-256 digest of every file with the manifest.

        Yields:
            The path of each file, after its digest was found to be right.

        Raises:
            BundleError: The digest of a file is wrong. The message names the file.
        """
        for file in self.manifest.files:
            if digest(self.path(file.path)) != file.sha256:
                raise BundleError(
                    f"{file.path} is damaged: its SHA-256 is not the manifest's; copy or convert the bundle again"
                )
            yield file.path


def open_bundle(folder: str | Path) -> Bundle:
    """Open a bundle: read its manifest, and check that every file is there and has the right size.

    Digests are not computed here; see `Bundle.verify`.

    Args:
        folder: The bundle's folder; `~` stands for the user's home folder.

    Raises:
        BundleNotFoundError: There is no such folder, or it has no manifest.
        BundleError: The manifest cannot be used; or a file is missing, has another size, or is a link out of the folder.
    """
    root = Path(folder).expanduser()
    try:
        text = (root / MANIFEST).read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError) as error:
        what = "holds no manifest.json" if root.is_dir() else "is not a folder"
        raise BundleNotFoundError(
            f"{root} {what}; expected a bundle written by `sao-onnx convert`, or a name that `sao-onnx models` lists"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(f"{root / MANIFEST} cannot be read: {error}") from error
    bundle = Bundle(root, parse_manifest(text))
    for file in bundle.manifest.files:
        path = bundle.path(file.path)
        if not path.is_file():
            raise BundleError(f"{root}: {file.path} is missing; copy or convert the bundle again")
        if not path.resolve().is_relative_to(root.resolve()):
            raise BundleError(f"{root}: {file.path} is a link that leaves the bundle; expected a file inside it")
        if path.stat().st_size != file.size:
            found = path.stat().st_size
            raise BundleError(f"{root}: {file.path} has {found} bytes, expected {file.size}; copy or convert the bundle again")
    return bundle


def digest(path: Path) -> str:
    """SHA-256 digest of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
