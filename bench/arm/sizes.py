"""The size of every package that is installed on a Raspberry Pi, and whether a clip needs it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from bench.arm.core import PROGRAMS, SITE_PACKAGES, SUITE, last_line
from bench.common import ROOT


def report(python: Path) -> Iterator[str]:
    """Add up the installed files of each package, and look which packages a clip loads.

    Args:
        python: The interpreter of the emulated machine.

    Yields:
        The lines of the report.
    """
    bundle, clip = ROOT / "models" / "miniature" / "bundle", ROOT / "scratch" / "arm-clip.wav"
    loaded = {Path(file) for file in json.loads(last_line([python, PROGRAMS / "loaded.py", bundle, clip], "cortex-a76"))}
    rows = []
    for distribution in metadata.distributions(path=[str(SITE_PACKAGES)]):
        files = [Path(str(distribution.locate_file(file))) for file in distribution.files or []]
        size = sum(file.stat().st_size for file in files if file.is_file())
        rows.append((size / 1e6, f"{distribution.name} {distribution.version}", bool(loaded.intersection(files))))
    rows.sort(reverse=True)
    total, unused = sum(size for size, _, _ in rows), sum(size for size, _, used in rows if not used)
    yield "# What is installed on aarch64"
    yield ""
    yield (
        f"`pip install` of the engine with Python {SUITE.python}: {total:.0f} MB in {len(rows)} packages, of which "
        f"{unused:.0f} MB are never loaded by `sao-onnx gen`."
    )
    yield ""
    yield "| package | MB | loaded |"
    yield "|---|---|---|"
    for megabytes, name, used in rows:
        yield f"| {name} | {megabytes:.1f} | {'yes' if used else 'no'} |"
