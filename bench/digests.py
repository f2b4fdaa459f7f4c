"""What the check of digests adds to the first start with a bundle, and to the next one.

    python -m bench.digests [--folder scratch/bench]

Writes `digests.md`. Each figure is a process of its own, the median of three. For "cold", the system is asked to forget the
files' pages first (`posix_fadvise`), so the disk counts.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from pathlib import Path

from bench.common import output_of, parser, prepared, processor
from sao_onnx.bundle.bundle import Bundle, open_bundle
from sao_onnx.bundle.manifest import StageName

ROUNDS = 3
STAGES: tuple[StageName, ...] = ("conditioner", "denoiser", "decoder")
PROGRAM = """
import sys, time
from sao_onnx.bundle.bundle import open_bundle
bundle = open_bundle(sys.argv[1])
began = time.perf_counter()
for stage in ("conditioner", "denoiser", "decoder"):
    with bundle.opening(bundle.stage_files(stage, "int8")):
        pass
print(time.perf_counter() - began)
"""


def main() -> None:
    """Measure, and write the report."""
    options = parser(__doc__).parse_args()
    prepared(options.folder, options.model)
    bundle = open_bundle(options.folder / "bundle")
    files = sorted({file for stage in STAGES for file in _files(bundle, stage)})
    size = sum(path.stat().st_size for path in files) / 1e6
    cold, warm, known = (
        statistics.median(times) for times in zip(*(_round(bundle, files) for _ in range(ROUNDS)), strict=True)
    )
    (options.results / "digests.md").write_text(
        f"# Digests before the first use\n\n"
        f"{len(files)} files of a bundle at full size, int8, {size:.0f} MB, on {processor()}: `python -m bench.digests`.\n\n"
        f"| start | seconds |\n|---|---|\n| the first, files not in memory | {cold:.2f} |\n"
        f"| the first, files in memory | {warm:.2f} |\n| every other | {known:.4f} |\n",
        encoding="utf-8",
    )


def _files(bundle: Bundle, stage: StageName) -> list[Path]:
    return [bundle.path(name) for name in bundle.stage_files(stage, "int8")]


def _round(bundle: Bundle, files: list[Path]) -> tuple[float, float, float]:
    """Seconds of a cold start, a warm one, and one that remembers."""
    _forget(files)
    with tempfile.TemporaryDirectory() as state:
        os.environ["XDG_STATE_HOME"] = state
        cold = _start(bundle)
    with tempfile.TemporaryDirectory() as state:
        os.environ["XDG_STATE_HOME"] = state
        return cold, _start(bundle), _start(bundle)


def _start(bundle: Bundle) -> float:
    return float(output_of([sys.executable, "-c", PROGRAM, str(bundle.folder)]))


def _forget(files: list[Path]) -> None:
    os.sync()
    for path in files:
        with path.open("rb") as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


if __name__ == "__main__":
    main()
