"""`sao-onnx models`: the models that have a name."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from sao_onnx.cli.command_options import MODEL_VARIABLE, Json
from sao_onnx.cli.streams import printable
from sao_onnx.cli.terminal import megabytes, note

if TYPE_CHECKING:
    from sao_onnx.bundle.names import KnownModel


def models(as_json: Json = False) -> None:
    """List the models that have a name; the default one is marked."""
    from sao_onnx.bundle.names import find, named_models
    from sao_onnx.errors import BundleError

    chosen = os.environ.get(MODEL_VARIABLE)
    try:
        default = find(chosen or None).resolve()
    except (OSError, RuntimeError, ValueError, BundleError):
        default = None  # Whatever the variable holds, the list shows what there is.
    found = [(model, model.folder.resolve() == default) for model in named_models()]
    if as_json:
        rows = [_row(model) | {"default": is_default} for model, is_default in found]
        print(json.dumps({"models": rows, "default": chosen, "folder": _user_folder()}))
        return
    for model, is_default in found:
        print(printable(f"{'*' if is_default else ' '} {model.name:<16} {_summary(model)}"))
    if chosen and not any(is_default for _, is_default in found):
        print(printable(f"* {chosen} (from {MODEL_VARIABLE})"))
    if (folder := _user_folder()) is not None:
        note(f"A bundle in {folder} is known by the name of its folder.")


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
