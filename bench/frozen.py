"""Frozen applications: how large a program is that makes a clip without Python, how fast it starts, and what may be left out.

It makes an environment with the wheel of this checkout and the freezers, from the package index, and freezes a small
application in each form. Every program is run with no variables, an empty home, in another folder and, where that can be
had, without a network; it must make the clip that the application makes unfrozen, byte for byte.

    python -m bench.frozen
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.common import ROOT, output_of, parser, processor

ROUNDS = 5

APPLICATION = """
import sys

import sao_onnx

engine = sao_onnx.load()
if len(sys.argv) > 1:
    engine.generate("short kick drum", seconds=1, seed=7).save(sys.argv[1])
"""
"""What is frozen: without an argument it gets ready, with one it makes a clip."""

NETWORK = ("ssl", "_ssl", "_hashlib")
"""What NumPy, asyncio and hashlib use where it is there, and an application without a network does without."""

TOOLS = ("yaml", "numpy.testing", "unittest", "doctest", "pydoc", "xml")
"""Tools of developers that NumPy names."""


@dataclass(frozen=True)
class Form:
    """A way to freeze an application.

    Attributes:
        title: For the report.
        arguments: Of PyInstaller; of cx_Freeze, where there are none.
        program: What is run, below the folder of the form.
        size: What is given to others, below the folder of the form.
    """

    title: str
    arguments: tuple[str, ...]
    program: str
    size: str


def _without(*modules: str) -> tuple[str, ...]:
    return tuple(part for module in modules for part in ("--exclude-module", module))


FORMS = {
    "folder": Form("PyInstaller, a folder", (), "dist/app/app", "dist/app"),
    "file": Form("PyInstaller, a file (`pyinstaller --onefile`)", ("--onefile",), "dist/app", "dist/app"),
    "tools": Form("a folder without developers' tools", _without(*TOOLS), "dist/app/app", "dist/app"),
    "network": Form("a folder without OpenSSL", _without(*NETWORK), "dist/app/app", "dist/app"),
    "soxr": Form("a folder without soxr", _without("soxr"), "dist/app/app", "dist/app"),
    "less": Form("a folder without all three", _without(*TOOLS, *NETWORK, "soxr"), "dist/app/app", "dist/app"),
    "less-file": Form("a file without all three", (*_without(*TOOLS, *NETWORK, "soxr"), "--onefile"), "dist/app", "dist/app"),
    "cx_freeze": Form("cx_Freeze", (), "build/app", "build"),
}


def environment(folder: Path, *freezers: str) -> Path:
    """Make an environment with the wheel of this checkout and freezers, from the package index; its Python.

    Raises:
        SystemExit: A package cannot be had.
    """
    venv.create(folder, with_pip=True, clear=True)
    python = _python(folder)
    output_of([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(ROOT), *freezers])
    return python


def frozen(python: Path, folder: Path, name: str, more: Sequence[str] = ()) -> Path:
    """Freeze the application in a form.

    Args:
        python: Of an environment with the freezer.
        folder: Is made; holds the application, what the freezer keeps, and the program.
        name: One of `FORMS`.
        more: Further arguments of the freezer.

    Returns:
        The program.

    Raises:
        SystemExit: It cannot be frozen.
    """
    form = FORMS[name]
    folder.mkdir(parents=True)
    application = folder / "app.py"
    application.write_text(APPLICATION, encoding="utf-8")
    if name == "cx_freeze":
        command = [str(python), "-m", "cx_Freeze", "--script", str(application), "build_exe"]
        command += ["--build-exe", str(folder / "build"), "--silent", *more]
    else:
        command = [str(python), "-m", "PyInstaller", "--noconfirm", "--log-level", "ERROR", *form.arguments, *more]
        command += ["--distpath", str(folder / "dist"), "--workpath", str(folder / "work"), "--specpath", str(folder)]
        command += [str(application)]
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-4000:]}")
    return _program(folder, name)


def _program(folder: Path, name: str) -> Path:
    return folder / f"{FORMS[name].program}{'.exe' if os.name == 'nt' else ''}"


def _python(folder: Path) -> Path:
    return folder / ("Scripts" if os.name == "nt" else "bin") / "python"


def alone(program: Sequence[str | Path], home: Path, *arguments: str) -> float:
    """Run a program as on a machine that has nothing: no variables, no network, an empty home, in which it works.

    Args:
        program: It, and what comes before it.
        home: Is made.
        arguments: Of the program.

    Returns:
        Seconds.

    Raises:
        SystemExit: It failed.
    """
    home.mkdir(parents=True, exist_ok=True)
    command = [*_apart(), *map(str, program), *arguments]
    # Windows starts nothing without this one.
    bare = {name: os.environ[name] for name in ("SYSTEMROOT",) if name in os.environ} | {"HOME": str(home)}
    begun = time.perf_counter()
    done = subprocess.run(command, cwd=home, env=bare, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - begun
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-4000:]}")
    return seconds


def _apart() -> tuple[str, ...]:
    """The command that gives a program a network with nobody in it; empty where that cannot be had."""
    alone = ("unshare", "-rn")
    if shutil.which(alone[0]) is None or subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        return ()
    return (str(shutil.which(alone[0])), *alone[1:])


def size(path: Path) -> int:
    """Bytes of a file, or of all files of a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file() and not file.is_symlink())


def report(folder: Path) -> Iterator[str]:
    """Freeze, run and measure every form.

    Args:
        folder: For all that is made; what is there is used.

    Yields:
        The lines of the report.
    """
    place = folder / "environment"
    python = _python(place) if place.exists() else environment(place, "pyinstaller", "cx_Freeze")
    application = folder / "app.py"
    application.write_text(APPLICATION, encoding="utf-8")
    programs: dict[str, list[str | Path]] = {"unfrozen": [python, application]}
    for name in FORMS:
        programs[name] = [_program(folder / name, name) if (folder / name).exists() else frozen(python, folder / name, name)]
    clips = {name: folder / "homes" / name / "clip.wav" for name in programs}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in programs}
    for _ in range(ROUNDS):
        for name, program in programs.items():
            clips[name].unlink(missing_ok=True)
            start = alone(program, clips[name].parent)
            times[name].append((start, alone(program, clips[name].parent, "clip.wav")))
    different = [name for name, clip in clips.items() if clip.read_bytes() != clips["unfrozen"].read_bytes()]
    if different:
        raise SystemExit(f"these make another clip: {', '.join(different)}")
    yield "# Frozen applications"
    yield ""
    yield (
        f"A program of a few lines that makes a clip of 1 s with sao-tiny, on {processor()}, {os.cpu_count()} processors, with "
        f"Python {sys.version.split()[0]}, {platform.system()} on {platform.machine()}; the fastest of {ROUNDS} rounds, from "
        "start to exit, because others used the machine. Ready: the engine is loaded, and nothing was generated. Every "
        "program ran without variables, with an empty home and without a network, and made the clip of the unfrozen one, byte "
        "for byte. "
        "Made by `python -m bench.frozen`."
    )
    yield ""
    yield "| form | MB | ready | with a clip |"
    yield "|---|---|---|---|"
    for name, measured in times.items():
        starts, all = (min(column) for column in zip(*measured, strict=True))
        megabytes = "" if name == "unfrozen" else f"{size(folder / name / FORMS[name].size) / 1e6:.0f}"
        title = "unfrozen" if name == "unfrozen" else FORMS[name].title
        yield f"| {title} | {megabytes} | {starts:.2f} s | {all:.2f} s |"


def main() -> None:
    """Write the report."""
    options = parser(__doc__).parse_args()
    folder = options.folder / "frozen"
    folder.mkdir(parents=True, exist_ok=True)
    text = "\n".join(report(folder))
    print(text)
    (options.results / "frozen.md").write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
