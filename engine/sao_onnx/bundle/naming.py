"""Gives bundles names, takes names away, and chooses the model that is used where none is named."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

from sao_onnx.bundle.bundle import is_folder, open_bundle
from sao_onnx.bundle.known import read_known, write_known
from sao_onnx.bundle.manifest_json import MANIFEST, safe_path
from sao_onnx.bundle.names import BUILT_IN, KnownModel, built_in_folder, named_models, user_folder
from sao_onnx.bundle.schema import shown
from sao_onnx.errors import BundleError, FileError, RequestError
from sao_onnx.places import expand_home
from sao_onnx.suggest import suggestion

REPOSITORY = re.compile(r"(https://huggingface\.co/)?[\w.-]+/[\w.-]+(@[\w./-]+)?")
"""How a repository is written."""


def add(folder: str | Path, name: str | None = None) -> KnownModel:
    """Give a bundle a name, wherever it lies.

    Args:
        folder: Its folder.
        name: Its name; by default that of its folder.

    Raises:
        BundleError: It cannot be opened.
        FileError: The name cannot be kept.
        RequestError: The name is taken or cannot be one, or `folder` is a checkpoint, which has to be converted first.
    """
    place = Path(os.path.abspath(expand_home(folder)))  # noqa: PTH100  Without following links, and without "..".
    if is_checkpoint(place) or (not is_folder(place) and REPOSITORY.fullmatch(str(folder))):
        target = user_folder() / (name or str(folder).partition("@")[0].rstrip("/").rpartition("/")[2] or place.name)
        command = shlex.join(["sao-onnx", "convert", str(folder), "-o", str(target), "--precision", "int8"])
        raise RequestError(f"{folder} is no bundle yet; make one, which has its name at once: {command}")
    bundle = open_bundle(place)
    name = _checked(place.name if name is None else name)
    for model in named_models():
        if model.name == name and not _same(model.folder, place):
            raise RequestError(f"{name} is the name of {model.folder}; choose another with --name, or remove that one")
        if model.name == name:
            return model
    write_known(read_known().with_name(name, place))
    return KnownModel(name, place, bundle)


def remove(name: str, *, delete: bool = False) -> Path:
    """Forget a name. The bundle stays where it is, unless it is to be deleted.

    Args:
        name: Of a model.
        delete: Delete the bundle, if it lies in the user's folder of models.

    Returns:
        The bundle's folder.

    Raises:
        FileError: The list of names cannot be written, or the bundle cannot be deleted.
        RequestError: There is no such name of the user's, it follows from where the bundle lies, or the bundle lies elsewhere.
    """
    known = read_known()
    own = user_folder() / _checked(name)
    folder = Path(known.folders.get(name, own))
    ours = _same(folder.parent, user_folder())
    if folder == own and not os.path.lexists(own / MANIFEST) and not own.is_symlink():
        raise RequestError(_unknown(name))
    if delete and not ours:
        raise RequestError(
            f"{folder} is not in {user_folder()}, so it is not deleted here; leave --delete out to forget its name"
        )
    if name not in known.folders and not delete and not own.is_symlink():
        raise RequestError(f"{name} has its name from where it lies, {own}; move it away, or delete it with --delete")
    if own.is_symlink() and folder == own:
        own.unlink()
    elif delete:
        _delete(folder)
    if known != known.without(name):
        write_known(known.without(name))
    return folder


def choose(name: str) -> KnownModel:
    """Choose the model that is used where none is named.

    Raises:
        BundleError: It cannot be opened.
        FileError: The choice cannot be kept.
        RequestError: There is no such name.
    """
    model = next((model for model in named_models() if model.name == name), None)
    if model is None:
        raise RequestError(_unknown(name))
    if model.bundle is None:
        raise BundleError(model.problem)
    known = read_known()
    chosen = replace(known, default=None if model.folder == built_in_folder() / BUILT_IN else name)
    if chosen != known:
        write_known(chosen)
    return model


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder holds what is converted rather than a bundle."""
    return (folder / "model_config.json").is_file() and not (folder / MANIFEST).exists()


def _checked(name: str) -> str:
    if not safe_path(name) or "/" in name or name.startswith((".", "-", "~")):
        raise RequestError(
            f"{shown(name)} can be no name; expected one that a folder can have, without dots or strokes in front"
        )
    return name


def _unknown(name: str) -> str:
    if (built_in_folder() / name).is_dir():
        return f"{name} comes with sao-onnx, and stays"
    names = [model.name for model in named_models()]
    near = suggestion(name, names)
    return f"there is no model {shown(name)}; " + (f"did you mean {near!r}?" if near else f"known: {', '.join(names)}")


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return one == other


def _delete(folder: Path) -> None:
    """Delete a bundle. What is left of it, should that fail half-way, is no bundle."""
    if folder.is_symlink():
        raise RequestError(
            f"{folder} is a link, and what it leads to is not deleted here; leave --delete out to forget its name"
        )
    doomed = folder.parent / f".{folder.name}.deleted"
    try:
        folder.rename(doomed)
        shutil.rmtree(doomed)
    except OSError as error:
        raise FileError(f"{folder} cannot be deleted: {error.strerror or error}") from error
