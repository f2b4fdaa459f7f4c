"""Writes the test vectors: `python -m models.vectors [FOLDER]`."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from models.vectors.make import HERE, SOURCES, bundle, shared


def main(folder: Path) -> None:
    """Write one file for each bundle, and one for what needs none."""
    for name, data in {"shared": shared(), **{name: bundle(source) for name, source in SOURCES.items()}}.items():
        path = folder / f"{name}.json"
        path.write_text(_on_one_line(json.dumps(data, indent=1)) + "\n", encoding="utf-8")
        print(path, path.stat().st_size, "bytes")


def _on_one_line(text: str) -> str:
    """JSON with each list of whole numbers on a line of its own."""
    return re.sub(r"\[([-\d,\s]+)\]", lambda found: f"[{' '.join(found[1].split())}]", text)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
