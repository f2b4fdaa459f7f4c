"""The sounds and pictures of the documentation, made by the commands that stand in it: `python -m bench.sounds`.

The blocks of a page that makes sounds are carried out in their order in a folder of their own, by sao-tiny. What the page links
to is then copied to its place. `tests/test_documents.py` holds every sound to its command.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"
BLOCK = re.compile(r"(?P<mark>^<!-- not run: [^>]*-->\n)?^```sh\n(?P<text>.*?)^```$", re.S | re.M)
MADE = re.compile(r"\]\((?P<path>(?:\.\./)?(?:sounds|pictures)/(?P<name>[\w-]+\.(?:ogg|png)))\)")


def make(page: Path, force: bool) -> None:
    """Make what a page links to.

    Args:
        page: In Markdown.
        force: Make sounds that are there, too.
    """
    text = page.read_text(encoding="utf-8")
    wanted = {match["name"]: page.parent / match["path"] for match in MADE.finditer(text)}
    if all(path.exists() for path in wanted.values()) and not force:
        return
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "SAO_ONNX_MODEL": "sao-tiny",
            "XDG_DATA_HOME": folder,
        }
        for block in BLOCK.finditer(text):
            if not block["mark"]:
                subprocess.run(["bash", "-ec", block["text"]], cwd=folder, env=environment, check=True)
        for name, path in wanted.items():
            if (Path(folder) / name).exists():
                path.parent.mkdir(exist_ok=True)
                if path.suffix == ".png":
                    _reduced(Path(folder) / name, path)
                else:
                    shutil.copy(Path(folder) / name, path)
                print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def _reduced(picture: Path, path: Path) -> None:
    """Keep a picture with 128 colours, which nobody sees, in a third of the bytes."""
    from PIL import Image

    Image.open(picture).convert("RGB").quantize(128).save(path, optimize=True)


def main() -> None:
    """Make all of them."""
    for page in (DOCS / "start.md", *sorted((DOCS / "options").glob("*.md"))):
        make(page, "--force" in sys.argv)


if __name__ == "__main__":
    main()
