"""Names of models: of the one in the package, of those in the user's folder of models, and of others that the user named."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sao_onnx.bundle.bundle import Bundle, is_folder, open_bundle, retired_folder
from sao_onnx.bundle.known import read_known
from sao_onnx.bundle.manifest_json import MANIFEST
from sao_onnx.errors import BundleError, BundleNotFoundError, FileError
from sao_onnx.places import expand_home, user_path
from sao_onnx.suggest import suggestion

BUILT_IN = "sao-tiny"
"""Name of the model inside the package: a small demonstrator, for a first clip and for tests."""


@dataclass(frozen=True)
class KnownModel:
    """A bundle that has a name.

    Attributes:
        name: Its name, which may be given wherever a bundle's folder may be given.
        folder: Its folder.
        bundle: The opened bundle; None if it cannot be opened.
        problem: Why it cannot be opened; "" if it can.
    """

    name: str
    folder: Path
    bundle: Bundle | None
    problem: str = ""


def user_folder() -> Path:
    """The user's folder of models. Each bundle in it has the name of its own folder. The folder need not exist.

    Raises:
        FileError: The user has no home folder, and no variable names another one.
    """
    return user_path("data") / "models"


def built_in_folder() -> Path:
    """The folder of models inside the package."""
    return Path(__file__).parent.parent / "bundles"


def find(model: str | Path | None = None) -> Path:
    """The folder of a model.

    Args:
        model: A folder, or else the name of a model. Of two models with the same name, the user's comes before the package's.
            None stands for the one that the user chose, or else the package's `BUILT_IN`.

    Returns:
        A folder, which need not exist.

    Raises:
        BundleError: The user's list of names cannot be read.
        BundleNotFoundError: The model that the user chose is gone, or another name may have been meant.
    """
    if model is None:
        return _chosen()
    folder = expand_home(model)
    if _is_there(folder) or len(folder.parts) != 1:
        return folder
    if (elsewhere := read_known().folders.get(str(folder))) is not None:
        return Path(elsewhere)
    found = next((named for named in (parent / folder for parent in _parents()) if _is_there(named)), folder)
    if found is folder and (near := suggestion(folder, _names())):
        raise BundleNotFoundError(f"{folder} is neither a folder nor the name of a model; did you mean {near!r}?")
    return found


def _chosen() -> Path:
    """The folder of the model that is used where none is named."""
    name = default_name()
    if name is None:
        return built_in_folder() / BUILT_IN
    folder = read_known().folders.get(name) or next((str(p / name) for p in _parents() if _is_there(p / name)), None)
    if folder is None or not _is_there(Path(folder)):
        place = f" (it was in {folder})" if folder else ""
        raise BundleNotFoundError(
            f"the model {name} is gone{place}, which was chosen for whenever none is named; "
            f"choose another: sao-onnx models default {BUILT_IN}"
        )
    return Path(folder)


def _names() -> set[str]:
    """The names of all models, without a look into them."""
    return {*read_known().folders, *(folder.name for parent in _parents() for folder in _bundles(parent))}


def default_name() -> str | None:
    """Name of the model that the user chose for whenever none is named; None for the package's.

    Raises:
        BundleError: The user's list of names cannot be read.
    """
    return read_known().default


def _is_there(folder: Path) -> bool:
    """Whether there is a bundle's folder, or would be if it were not just being replaced."""
    return is_folder(folder) or is_folder(retired_folder(folder))


def named_models() -> Iterator[KnownModel]:
    """All models that have a name, sorted by name. Of two models with the same name, only the user's is yielded.

    Raises:
        BundleError: The user's list of names cannot be read.
    """
    folders = {folder.name: folder for parent in reversed(_parents()) for folder in _bundles(parent)}
    folders |= {name: Path(folder) for name, folder in read_known().folders.items()}
    for name, folder in sorted(folders.items()):
        try:
            yield KnownModel(name, folder, open_bundle(folder))
        except BundleError as error:
            yield KnownModel(name, folder, None, str(error))


def _parents() -> list[Path]:
    """The folders of models; the user's comes first, if there is one."""
    try:
        return [user_folder(), built_in_folder()]
    except FileError:
        return [built_in_folder()]


def _bundles(parent: Path) -> list[Path]:
    try:
        # Hidden ones are conversions that are not complete.
        return [path for path in parent.iterdir() if not path.name.startswith(".") and os.path.lexists(path / MANIFEST)]
    except OSError:
        return []
