"""`sao-onnx models`: the models that have a name; gives and takes names, and chooses the default one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from sao_onnx.cli.command_options import Json
from sao_onnx.cli.streams import printable
from sao_onnx.cli.terminal import megabytes, note

if TYPE_CHECKING:
    from sao_onnx.bundle.names import KnownModel


Name = Annotated[str, typer.Argument(metavar="NAME", help="A name that `sao-onnx models` lists.", show_default=False)]


def models(context: typer.Context, as_json: Json = False) -> None:
    """List the models that have a name, the default one marked; or change the list."""
    if context.invoked_subcommand is None:
        _list(as_json)


def add(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="The bundle's folder.", show_default=False)],
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Its name.", show_default="that of the folder")
    ] = None,
) -> None:
    """Give a bundle a name, wherever it lies."""
    from sao_onnx.bundle.naming import add as add_name

    model = add_name(folder, name)
    note(f"{model.name} is {model.folder}; try it: sao-onnx gen -m {model.name} --surprise")


def remove(
    name: Name,
    delete: Annotated[bool, typer.Option("--delete", help="Delete the bundle in the user's folder of models as well.")] = False,
) -> None:
    """Forget a name. The bundle stays."""
    from sao_onnx.bundle.naming import remove as remove_name

    folder = remove_name(name, delete=delete)
    note(f"{name} is forgotten, and {folder} is deleted" if delete else f"{name} is forgotten; {folder} stays as it is")


def default(name: Name) -> None:
    """Choose the model that is used where none is named."""
    from sao_onnx.bundle.naming import choose
    from sao_onnx.cli.settings import settled_model

    note(f"{choose(name).name} is used where no model is named")
    if (setting := settled_model()) is not None:
        note(f"for now it is {setting.value}, because of {setting.source}")


def _list(as_json: bool) -> None:
    from sao_onnx.bundle.names import default_name, find, named_models
    from sao_onnx.cli.settings import settled_model
    from sao_onnx.errors import BundleError

    setting = settled_model()
    chosen = None if setting is None else str(setting.value)
    try:
        default = find(chosen).resolve()
    except (OSError, RuntimeError, ValueError, BundleError):
        default = None  # Whatever the variable holds, the list shows what there is.
    found = [(model, model.folder.resolve() == default) for model in named_models()]
    if as_json:
        rows = [_row(model) | {"default": is_default} for model, is_default in found]
        print(json.dumps({"models": rows, "default": chosen, "folder": _user_folder()}))
        return
    for model, is_default in found:
        print(printable(f"{'*' if is_default else ' '} {model.name:<16} {_summary(model)}"))
    if setting is not None and not any(is_default for _, is_default in found):
        print(printable(f"* {chosen} (from {setting.source})"))
    elif default is None and (name := default_name()) is not None:
        print(printable(f"* {name} is gone; choose another: sao-onnx models default NAME"))
    if (folder := _user_folder()) is not None:
        note(f"A bundle in {folder} is known by the name of its folder; `sao-onnx models add` names others.")


def _user_folder() -> str | None:
    from sao_onnx.bundle.names import user_folder
    from sao_onnx.errors import FileError

    try:
        return str(user_folder())
    except FileError:  # This user has no home.
        return None


def _row(model: KnownModel) -> dict[str, object]:
    row: dict[str, object] = {"name": model.name, "folder": str(model.folder), "problem": model.problem or None}
    if model.bundle is not None:
        manifest = model.bundle.manifest
        row |= {"precisions": manifest.precisions, "window_seconds": manifest.window_seconds, "size": model.bundle.size}
    return row


def _summary(model: KnownModel) -> str:
    if model.bundle is None:
        return f"cannot be used: {model.problem}"
    manifest = model.bundle.manifest
    held = ", ".join(manifest.precisions)
    return f"{held:<12} {manifest.window_seconds:>6.2f} s  {megabytes(model.bundle.size):>8}  {model.folder}"
