"""A bundle on disk: the folder that a conversion writes and the engine runs from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sao_onnx.bundle.manifest import Graph, Manifest, Precision, parse_manifest
from sao_onnx.errors import BundleError, BundleNotFoundError

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Bundle:
    """A folder and its checked manifest."""

    folder: Path
    manifest: Manifest

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that a bundle shares with its copies and with no other: of its manifest's digest."""
        return hashlib.sha256(self.manifest.to_json().encode()).hexdigest()[:12]

    def path(self, name: str) -> Path:
        """Absolute path of a file that the manifest lists."""
        return self.folder / name

    def precision(self, wanted: str | None) -> Precision:
        """The precision to run: the wanted one, or the bundle's best.

        Raises:
            BundleError: The bundle does not hold the wanted one completely.
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
        """Bytes of all its files."""
        return sum(file.size for file in self.manifest.files)

    def weight(self, graph: Graph) -> int:
        """Bytes of a graph and its weights on disk."""
        sizes = {file.path: file.size for file in self.manifest.files}
        return sum(sizes[path] for path in (graph.path, *graph.weights))

    def verify(self) -> Iterator[str]:
        """Check every file's digest, yielding each path once it is found good.

        Raises:
            BundleError: A file does not hold the bytes that the manifest promises; it is named.
        """
        for file in self.manifest.files:
            if digest(self.path(file.path)) != file.sha256:
                raise BundleError(
                    f"{file.path} is damaged: its SHA-256 is not the manifest's; copy or convert the bundle again"
                )
            yield file.path


def open_bundle(folder: str | Path) -> Bundle:
    """Open a bundle: read its manifest, and see that every file is there with its size.

    Digests are not computed; `Bundle.verify` does that.

    Raises:
        BundleNotFoundError: There is no such folder, or no manifest in it.
        BundleError: The manifest is not acceptable, or a file is missing, cut short or outside the folder.
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
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
