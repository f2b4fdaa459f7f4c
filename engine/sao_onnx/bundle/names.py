"""Models by name: the one that the package brings, and bundles that the user keeps in one folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from sao_onnx.bundle.bundle import MANIFEST, Bundle, open_bundle
from sao_onnx.errors import BundleError

BUILT_IN = "sao-tiny"
"""The model that the package brings: a small demonstrator, for the first clip and for tests."""


@dataclass(frozen=True)
class KnownModel:
    """A bundle that has a name.

    Attributes:
        name: To be used where a folder could be.
        folder: Where it is.
        bundle: None if it cannot be opened.
        problem: Why not.
    """

    name: str
    folder: Path
    bundle: Bundle | None
    problem: str = ""


def user_folder() -> Path:
    """The folder in which every bundle is known by the name of its folder. It need not exist."""
    return platformdirs.user_data_path("sao-onnx") / "models"


def built_in_folder() -> Path:
    """The folder of the bundles inside the package."""
    return Path(__file__).parent.parent / "bundles"


def find(model: str | Path | None = None) -> Path:
    """The folder of a model.

    Args:
        model: A folder; or a name, where there is no such folder. The user's own come before the package's. By default
            `BUILT_IN`, the package's.

    Returns:
        A folder, which need not exist.
    """
    if model is None:
        return built_in_folder() / BUILT_IN
    folder = Path(model).expanduser()
    if folder.is_dir() or len(folder.parts) != 1:
        return folder
    return next((named for named in (user_folder() / folder, built_in_folder() / folder) if named.is_dir()), folder)


def known() -> Iterator[KnownModel]:
    """The models that have a name, in the order of their names; the package's where the user has none of its name."""
    folders = {folder.name: folder for kept in (built_in_folder(), user_folder()) for folder in _bundles(kept)}
    for name, folder in sorted(folders.items()):
        try:
            yield KnownModel(name, folder, open_bundle(folder))
        except BundleError as error:
            yield KnownModel(name, folder, None, str(error))


def _bundles(kept: Path) -> Iterator[Path]:
    if kept.is_dir():
        yield from (path for path in kept.iterdir() if (path / MANIFEST).is_file())
