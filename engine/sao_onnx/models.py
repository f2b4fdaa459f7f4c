"""Models by name: bundles that the user keeps in one folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from sao_onnx.bundle import MANIFEST, Bundle, open_bundle
from sao_onnx.errors import BundleError, BundleNotFoundError


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


def find(model: str | Path | None) -> Path:
    """The folder of a model.

    Args:
        model: A folder; or a name, where there is no such folder.

    Returns:
        A folder, which need not exist.

    Raises:
        BundleNotFoundError: `model` is None.
    """
    if model is None:
        raise BundleNotFoundError(
            "no model: use --model BUNDLE or set SAO_ONNX_MODEL; `sao-onnx convert --help` shows how to make a bundle"
        )
    folder = Path(model).expanduser()
    named = user_folder() / folder
    return named if not folder.is_dir() and len(folder.parts) == 1 and named.is_dir() else folder


def known() -> Iterator[KnownModel]:
    """The models that have a name, in the order of their names."""
    kept = user_folder()
    for folder in sorted(path for path in kept.iterdir() if (path / MANIFEST).is_file()) if kept.is_dir() else ():
        try:
            yield KnownModel(folder.name, folder, open_bundle(folder))
        except BundleError as error:
            yield KnownModel(folder.name, folder, None, str(error))
