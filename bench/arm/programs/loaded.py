"""Lists the files of all Python modules that `sao-onnx gen` loads, with its progress bar and messages.

    python loaded.py BUNDLE CLIP

Writes the clip, and prints the files as a list.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys


def loaded_files(bundle: str, clip: str) -> list[str]:
    """Make a clip from the command line, and list the files of the modules that are loaded after it.

    Args:
        bundle: Folder of a bundle.
        clip: The audio file to write.
    """
    from rich.progress import Progress

    from sao_onnx.cli import app

    with Progress(), contextlib.redirect_stdout(io.StringIO()):
        app(["gen", "rain", "-m", bundle, "-o", clip, "--seconds", "0.5", "--force"], standalone_mode=False)
    files = (getattr(module, "__file__", None) for module in sys.modules.values())
    return sorted({file for file in files if file})


if __name__ == "__main__":
    # The progress bar may have left the cursor in the middle of a line.
    print(f"\n{json.dumps(loaded_files(*sys.argv[1:]))}")
