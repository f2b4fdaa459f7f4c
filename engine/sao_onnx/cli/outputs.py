"""The files that `gen` reads and writes: known, possible and different from each other before the work."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sao_onnx.cli.results import print_bytes, print_result, require_writable, save_sidecar
from sao_onnx.file_names import file_name, for_several
from sao_onnx.places import address_in_words, expand_home, user_path

if TYPE_CHECKING:
    from sao_onnx.clip import Clip
    from sao_onnx.engine import Engine
    from sao_onnx.request import Request

STDOUT = Path("-")


@dataclass(frozen=True)
class Outputs:
    """All files that are written.

    Attributes:
        clips: Every seed with the file that its clip goes to; `STDOUT` stands for stdout.
        bits: Of a sample.
        metadata: Of the clips: whether their tags say how they were made.
        sidecar: A JSON file is written beside each clip.
        preview: A file for the sound so far, or None.
        plot: A file for a picture, or None.
        force: Replace files that exist.
    """

    clips: list[tuple[int, Path]]
    bits: int | None
    metadata: bool
    sidecar: bool
    preview: Path | None
    plot: Path | None
    force: bool

    def require(self, sources: Iterable[Path]) -> None:
        """Refuse files that could not be written, and those that would take each other's place, before the work.

        Args:
            sources: Files that are read.

        Raises:
            RequestError: The clip would go to a terminal, a name says no format, or a file is named twice.
            SaoOnnxError: A file cannot be written, or an extra is missing.
        """
        paths = [path for _, path in self.clips if path != STDOUT]
        if len(paths) < len(self.clips):
            _require_stdout()
        for path in paths:
            require_writable(path, self.bits, self.force, sidecar=self.sidecar)
        if self.preview is not None:
            require_writable(self.preview, None, self.force, sidecar=False)
        if self.plot is not None:
            _require_picture(self.plot, self.force)
        sidecars = [path.with_suffix(".json") for path in paths] if self.sidecar else []
        extra = [path for path in (self.preview, self.plot) if path is not None]
        _require_different([*paths, *sidecars, *extra], sources)

    def write(self, clip: Clip, path: Path, engine: Engine) -> None:
        """Write a clip, and print where it is."""
        if path == STDOUT:
            print_bytes(clip.encoded(bits=self.bits, metadata=self.metadata))
        else:
            from sao_onnx.outcome import describe

            clip.save(path, overwrite=self.force, bits=self.bits, metadata=self.metadata)
            print_result(describe(clip, engine, str(path)), as_json=self.sidecar)

    def write_extras(self, clip: Clip, path: Path) -> None:
        """Write what else is made of a clip."""
        if self.sidecar:
            save_sidecar(clip, path, force=self.force, bits=self.bits)
        if self.plot is not None:
            from sao_onnx.audio.picture import plot

            plot(clip, self.plot, overwrite=self.force)


def clips_of(output: str, request: Request, count: int) -> list[tuple[int, Path]]:
    """Every seed with the file that its clip goes to.

    Raises:
        RequestError: There are not so many seeds, or the name cannot be read or leads to no file of this machine.
    """
    from sao_onnx.errors import RequestError
    from sao_onnx.request import MAX_SEED

    first = request.seed or 0
    if first + count - 1 > MAX_SEED:
        raise RequestError(f"seed is {first} and count {count}, expected seeds of 0 to {MAX_SEED}, the last one included")
    if Path(output) == STDOUT:
        return [(first, STDOUT)]
    _refuse_address(output)
    template = for_several(output) if count > 1 else output
    seeds = range(first, first + count)
    names = [file_name(template, prompt=request.prompt, seed=seed, index=seed - first + 1) for seed in seeds]
    return [(seed, expand_home(name)) for seed, name in zip(seeds, names, strict=True)]


def expanded(path: Path) -> Path:
    """A file other than the clip that may be written, with the home folder for `~`.

    Raises:
        RequestError: It was meant as an address.
    """
    _refuse_address(path)
    return expand_home(path)


def _refuse_address(path: str | Path) -> None:
    from sao_onnx.errors import RequestError

    if address := address_in_words(path):
        hint = "" if isinstance(path, Path) or "://" in path else f"; a file of this name is ./{path}"
        raise RequestError(f"{address}, expected a file on this machine; `sao-onnx batch` writes to addresses{hint}")


def _require_stdout() -> None:
    from sao_onnx.errors import FileError, RequestError

    if sys.stdout is None:
        raise FileError("stdout is closed; write the clip to a file")
    if sys.stdout.isatty():
        raise RequestError("a clip is no text for a terminal; send it on, as in: -o - | aplay; or write it to a file")


def _require_picture(path: Path, force: bool) -> None:
    from sao_onnx.audio.picture import require_plotting
    from sao_onnx.errors import FileError
    from sao_onnx.writing import require_free

    with contextlib.suppress(FileError):  # Without a home folder, it makes one of its own.
        # matplotlib keeps a list of fonts, which takes seconds to make: in the folder of this program, not in its own.
        os.environ.setdefault("MPLCONFIGDIR", str(user_path("cache") / "matplotlib"))
    require_plotting(path)
    require_free(path, force)


def _require_different(written: Iterable[Path], read: Iterable[Path]) -> None:
    """Refuse to write a file twice, or over one that the clip is made from."""
    from sao_onnx.errors import RequestError

    sources = {_identity(path) for path in read}
    taken = set()
    for path in written:
        identity = _identity(path)
        if identity in sources:
            raise RequestError(f"{path} is what the clip is made from; choose another name for what is written")
        if identity in taken:
            raise RequestError(f"{path} would be written twice; choose different names")
        taken.add(identity)


def _identity(path: Path) -> object:
    """What is the same for two names of one file."""
    try:
        found = path.stat()
    except OSError:
        with contextlib.suppress(OSError):  # Links that cannot be read either.
            path = Path(os.path.realpath(path))
        return os.path.normcase(path)
    return found.st_dev, found.st_ino
