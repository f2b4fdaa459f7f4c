"""What a frozen application needs of the package beside the modules that PyInstaller finds by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PyInstaller.utils.hooks import collect_data_files, get_hook_config

if TYPE_CHECKING:
    from PyInstaller.depend.imphookapi import PostGraphAPI

# `sao_onnx.load` and its like are looked up when they are first used, by a name that no analysis of the code can follow.
hiddenimports = ["sao_onnx.engine", "sao_onnx.errors", "sao_onnx.events", "sao_onnx.provenance", "sao_onnx.request"]


def hook(hook_api: PostGraphAPI) -> None:
    """Add sao-tiny with its licence, and the page of the server.

    An application with a model of its own leaves sao-tiny out, by `hooksconfig={"sao_onnx": {"sao-tiny": False}}` in its spec.
    """
    wanted = get_hook_config(hook_api, "sao_onnx", "sao-tiny")
    hook_api.add_datas(collect_data_files("sao_onnx", excludes=["bundles"] if wanted is False else None))
