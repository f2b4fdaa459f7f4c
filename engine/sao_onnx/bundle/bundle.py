"""A bundle on disk: the folder that the converter writes and that the engine runs."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from sao_onnx.bundle.checked import Checked, digest
from sao_onnx.bundle.manifest import PRECISIONS, File, Graph, Manifest, Precision, StageName
from sao_onnx.bundle.manifest_json import MANIFEST, canonical_json, parse_manifest
from sao_onnx.bundle.schema import SchemaError
from sao_onnx.bundle.signatures import check_signatures
from sao_onnx.errors import BundleError, BundleNotFoundError, FileError, RequestError
from sao_onnx.places import expand_home
from sao_onnx.reading import read_small

MAX_MANIFEST = 1_000_000
"""Bytes of the largest manifest that is read; those that `sao-onnx convert` writes have 17,000."""

VERIFY_VARIABLE = "SAO_ONNX_VERIFY"
"""Environment variable; 0 means that digests are not compared before files are used."""

PATIENCE = 1.0
"""Seconds for which a bundle is waited for that is just being replaced, which takes two renamings."""


@dataclass(frozen=True)
class Bundle:
    """A folder with a manifest that has been checked.

    Attributes:
        folder: The bundle's folder.
        manifest: Its manifest.
        checked: Files whose digests were found to be right; None where digests are not compared before files are used.
    """

    folder: Path
    manifest: Manifest
    checked: Checked | None = field(default=None, compare=False, repr=False)

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
            RequestError: The bundle does not have every graph in the wanted precision.
        """
        held = self.manifest.precisions
        if wanted is None:
            return held[0]
        for precision in held:
            if precision == wanted:
                return precision
        remedy = f"convert it again with --precision {wanted}" if wanted in PRECISIONS else f"choose {' or '.join(held)}"
        raise RequestError(f"{self.folder} holds {', '.join(held)}, not {wanted!r}; {remedy}")

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

    def stage_files(self, stage: StageName, precision: Precision) -> tuple[str, ...]:
        """Paths of the files that a stage is opened from: its graphs, their weights, and the conditioner's tokenizer.

        Raises:
            BundleError: The bundle does not have the stage in this precision.
        """
        graphs = [self.manifest.graph(role, precision) for role in self.manifest.stage_roles(stage)]
        tokenizer = [self.manifest.tokenizer] if stage == "conditioner" else []
        return (*tokenizer, *(path for graph in graphs for path in (graph.path, *graph.weights)))

    @contextlib.contextmanager
    def opening(self, paths: Sequence[str]) -> Iterator[None]:
        """Hold around the opening of files: they are as the manifest says, and all of the same bundle.

        Before the block, the manifest on the disk is compared with this one, and the files' digests with it, as far as they are
        not known to be right (`Checked`). After the block the files must be the same as before.

        Args:
            paths: Of the files, as the manifest lists them.

        Raises:
            BundleError: A file is damaged or missing, or the bundle was replaced.
        """
        try:
            self._require_current()
            before = [self._sound(path) for path in paths]
            yield
            if before != [_state(self.path(path)) for path in paths]:
                raise self._replaced()
        except (BundleError, OSError) as error:
            # It may only look like damage.
            self._require_current()
            if isinstance(error, BundleError):
                raise
            raise BundleError(f"{self.folder} cannot be read: {error.strerror or error}") from error

    def _require_current(self) -> None:
        try:
            current = read_manifest(self.folder) == self.manifest
        except BundleError:
            current = False
        if not current:
            raise self._replaced()

    def _replaced(self) -> BundleError:
        return BundleError(f"{self.folder} was replaced or removed while it was in use; load it again")

    def _sound(self, path: str) -> _State:
        """The state of a file whose digest is right, or which must not be checked."""
        file = next(file for file in self.manifest.files if file.path == path)
        state = _state(self.path(path))
        if state.size != file.size:  # Or it may be none that ends.
            raise BundleError(f"{self.folder}: {path} has {state.size} bytes, expected {file.size}; {remedy(self.folder)}")
        if self.checked is not None and not self.checked.is_right(self.path(path), file.sha256):
            raise self._damaged(file)
        return state

    def _damaged(self, file: File) -> BundleError:
        return BundleError(f"{self.folder}: {file.path} is damaged: its SHA-256 is not the manifest's; {remedy(self.folder)}")

    def verify(self) -> Iterator[str]:
        """Compare the SHA-256 digest of every file with the manifest. Nothing that was found before counts.

        Yields:
            The path of each file, after its digest was found to be right.

        Raises:
            BundleError: The digest of a file is wrong, or it cannot be read. The message names the file.
        """
        for file in self.manifest.files:
            try:
                right = digest(self.path(file.path)) == file.sha256
            except OSError as error:
                raise BundleError(f"{self.folder}: {file.path} cannot be read: {error.strerror or error}") from error
            if not right:
                raise self._damaged(file)
            yield file.path


def open_bundle(folder: str | Path, *, verify: bool | None = None) -> Bundle:
    """Open a bundle: read its manifest, and check that every file is there and has the right size.

    Digests are not computed here, but for the files of each stage before it is first used; see `Bundle.opening`.

    Args:
        folder: The bundle's folder; `~` stands for the user's home folder.
        verify: Compare digests before files are used; by default, unless the environment variable `SAO_ONNX_VERIFY` is 0.

    Raises:
        BundleNotFoundError: There is no such folder, or it has no manifest.
        BundleError: The manifest cannot be used; or a file is missing, has another size, or is a link out of the folder.
    """
    root = expand_home(folder)
    if verify is None:
        verify = os.environ.get(VERIFY_VARIABLE, "").strip() != "0"
    manifest = read_manifest(root)
    while problem := _problem(root, manifest):
        # The manifest may have been that of a bundle which was replaced a moment ago.
        before, manifest = manifest, read_manifest(root)
        if before == manifest:
            raise BundleError(f"{root}: {problem}")
    return Bundle(root, manifest, Checked() if verify else None)


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a bundle. If the bundle is just being replaced, wait for the new one.

    Raises:
        BundleNotFoundError: There is no such folder, or it has no manifest.
        BundleError: The manifest cannot be used.
    """
    path = folder / MANIFEST
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return _parsed(read_small(path, MAX_MANIFEST).decode("utf-8"))
        except FileNotFoundError as error:
            if time.monotonic() < deadline and is_folder(retired_folder(folder)):
                time.sleep(0.01)
                continue
            raise _not_found(folder) from error
        except FileError as error:  # It names the file.
            raise BundleError(f"{error}; {remedy(folder)}") from error
        except UnicodeDecodeError as error:
            raise BundleError(f"{path} cannot be read: it is not text; {remedy(folder)}") from error
        except SchemaError as error:
            raise BundleError(f"{path}: {error}; convert the model again") from error


@functools.lru_cache(maxsize=4)
def _parsed(text: str) -> Manifest:
    """A manifest by its text. It is compared with the one on the disk for every stage that is opened, and rarely changes."""
    manifest = parse_manifest(text)
    check_signatures(manifest)
    return manifest


def _not_found(folder: Path) -> BundleNotFoundError:
    if not is_folder(folder) and is_folder(retired := retired_folder(folder)):
        return BundleNotFoundError(
            f"{folder} is not a folder: something ended a conversion while it was replaced; run it again, or rename {retired}"
        )
    what = "holds no manifest.json" if is_folder(folder) else "is not a folder"
    return BundleNotFoundError(
        f"{folder} {what}; expected a bundle written by `sao-onnx convert`, or a name that `sao-onnx models` lists"
    )


def _problem(root: Path, manifest: Manifest) -> str:
    """What is wrong with the files of a bundle; "" if nothing is."""
    try:
        inside = root.resolve()
        for file in manifest.files:
            path = root / file.path
            if not path.is_file():
                return f"{file.path} is missing; {remedy(root)}"
            if not path.resolve().is_relative_to(inside):
                return f"{file.path} is a link that leaves the bundle; expected a file inside it"
            if (found := path.stat().st_size) != file.size:
                return f"{file.path} has {found} bytes, expected {file.size}; {remedy(root)}"
    except (OSError, RuntimeError) as error:  # RuntimeError: links that go round in a circle.
        return f"it cannot be read: {error}"
    return ""


def remedy(folder: Path) -> str:
    """How a damaged bundle is mended, in words."""
    if Path(__file__).parent.parent in folder.absolute().parents:
        return "install sao-onnx again (pip install --force-reinstall sao-onnx)"
    return "copy or convert the bundle again"


def retired_folder(folder: Path) -> Path:
    """Where a bundle is put, for a moment, while another one takes its place."""
    try:
        place = folder.resolve()
    except (OSError, RuntimeError, ValueError):
        place = folder.absolute()
    return place.parent / f".{place.name}.retired"


def is_folder(path: Path) -> bool:
    """Whether there is a folder that can be seen. Unlike `Path.is_dir`, it never fails, whatever the name."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


class _State(NamedTuple):
    """What changes when a file is changed or replaced."""

    device: int
    inode: int
    size: int
    changed: int


def _state(path: Path) -> _State:
    found = path.stat()
    return _State(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
