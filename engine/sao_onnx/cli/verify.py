"""`sao-onnx verify`: whether the files of a bundle are those that its manifest describes."""

from __future__ import annotations

import json

from sao_onnx.cli.command_options import Bundle, Json, Quiet
from sao_onnx.cli.streams import printable
from sao_onnx.cli.terminal import progress_bar


def verify(bundle: Bundle = None, as_json: Json = False, quiet: Quiet = False) -> None:
    """Check the digest of every file of a bundle."""
    from sao_onnx.bundle.bundle import open_bundle
    from sao_onnx.bundle.names import find

    opened = open_bundle(find(bundle))
    total = len(opened.manifest.files)
    with progress_bar(not quiet) as bar:
        bar.update("checking", 0, total)
        for done, _ in enumerate(opened.verify(), start=1):
            bar.update("checking", done, total)
    print(
        json.dumps({"bundle": str(opened.folder), "files": total, "ok": True})
        if as_json
        else printable(f"{opened.folder}: {total} files are as they should be")
    )
