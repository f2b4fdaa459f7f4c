"""How large an installation is, for aarch64 and x86-64: whole, and the library alone, as an application brings it.

Wheels for both kinds of machine are downloaded from the package index, and their files added up as they unpack.

    python -m bench.install_sizes
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from email.parser import Parser
from pathlib import Path

from bench.common import ROOT, output_of, parser

LIBRARY = ("sao-onnx", "numpy", "onnxruntime", "platformdirs", "soundfile", "cffi", "typing-extensions", "tokenizers")
"""What the library loads. docs/embedding/install.md installs just these."""

RESAMPLER = ("soxr",)

PYTHON = "3.13"

PLATFORMS = {"aarch64": "manylinux_2_28_aarch64", "x86-64": "manylinux_2_28_x86_64"}


def sizes(platform: str, folder: Path, wheel: Path) -> dict[str, float]:
    """Megabytes of every package that pip would install, unpacked, by its name.

    Args:
        platform: A tag of wheels, besides its older ones.
        folder: For the wheels.
        wheel: Of this project.

    Raises:
        SystemExit: A wheel cannot be had.
    """
    machine = platform.removeprefix("manylinux_2_28_")
    tags = (platform, f"manylinux_2_27_{machine}", f"manylinux_2_17_{machine}", f"manylinux2014_{machine}")
    chosen = [part for tag in tags for part in ("--platform", tag)]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--dest", str(folder)]
    output_of([*command, *chosen, "--python-version", PYTHON, "--only-binary", ":all:", str(wheel)])
    found = {}
    for path in folder.glob("*.whl"):
        with zipfile.ZipFile(path) as archive:
            [metadata] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
            name = Parser().parsestr(archive.read(metadata).decode())["Name"].lower().replace("_", "-")
            found[name] = sum(entry.file_size for entry in archive.infolist()) / 1e6
    return found


def report() -> Iterator[str]:
    """Add up what is installed.

    Yields:
        The lines of the report.
    """
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
        output_of([*build, "--wheel-dir", str(folder), str(ROOT)])
        [wheel] = folder.glob("*.whl")
        found = {}
        for name, platform in PLATFORMS.items():
            (folder / name).mkdir()
            found[name] = sizes(platform, folder / name, wheel)
            shutil.rmtree(folder / name)
    yield "# The library alone"
    yield ""
    yield (
        f"Files of the wheels as they unpack, for Python {PYTHON} on Linux, in MB. What Python compiles beside them comes "
        "on top. Made by `python -m bench.install_sizes`."
    )
    yield ""
    yield f"| | {' | '.join(found)} |"
    yield f"|---|{'---|' * len(found)}"
    rows = {
        "`pip install sao-onnx`": None,
        "the library alone": LIBRARY,
        "the library and soxr": (*LIBRARY, *RESAMPLER),
        "sao-onnx itself, nearly all of it sao-tiny": ("sao-onnx",),
    }
    for title, names in rows.items():
        totals = [sum(mb for name, mb in each.items() if names is None or name in names) for each in found.values()]
        yield f"| {title} | {' | '.join(f'{total:.0f}' for total in totals)} |"
    yield ""
    yield f"| package | {' | '.join(found)} | used by |"
    yield f"|---|{'---|' * len(found)}---|"
    first = next(iter(found.values()))
    for name in sorted(first, key=first.__getitem__, reverse=True):
        user = "the library" if name in LIBRARY else "the library, for other sample rates" if name in RESAMPLER else ""
        figures = " | ".join(f"{each[name]:.1f}" if name in each else "-" for each in found.values())
        yield f"| {name} | {figures} | {user or 'the command, or nobody'} |"


def main() -> None:
    """Write the report."""
    options = parser(__doc__).parse_args()
    text = "\n".join(report())
    print(text)
    (options.results / "install-sizes.md").write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
