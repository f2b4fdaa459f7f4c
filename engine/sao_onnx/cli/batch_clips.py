"""From a line of a list to a clip in a file, or to the reason why there is none."""

from __future__ import annotations

import errno
import os
import re
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sao_onnx.cli.made_before import difference
from sao_onnx.cli.names import file_name
from sao_onnx.cli.request_options import read_options
from sao_onnx.cli.results import describe, require_writable, save
from sao_onnx.errors import FileError, OutputExistsError, RequestError
from sao_onnx.option import shown

if TYPE_CHECKING:
    from sao_onnx.cli.request_file import Line
    from sao_onnx.engine import Engine
    from sao_onnx.request import Request

LONGEST_NAME = 255
"""Bytes of a name on nearly every file system."""

NO_NAME = re.compile(
    r"""
    [\x00-\x1f\x7f/\\:*?"<>|]  # separators, drives, and what Windows and memory cards refuse
    | ^~ | [. ]$                # a home; what Windows cuts off
    | ^(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])\ *(\.|$)  # its devices
    """,
    re.IGNORECASE | re.VERBOSE,
)
"""What makes a name lead elsewhere, or mean no file, on some system. A list means the same on all of them."""

NOWHERE = {errno.ENOSPC, errno.EROFS, errno.EIO, getattr(errno, "EDQUOT", errno.ENOSPC), getattr(errno, "ESTALE", errno.EIO)}
"""What the operating system says where no other clip could be written either."""


@dataclass(frozen=True)
class Task:
    """A clip to be made.

    Attributes:
        number: Of its line in the list, from 1.
        path: The file that it goes to.
        request: What is asked for.
    """

    number: int
    path: Path
    request: Request


@dataclass(frozen=True)
class Files:
    """How the clips of a list are named, seeded and written.

    Attributes:
        folder: For the clips.
        name: Of each file, with fields to be filled in.
        seed: Of the first request, counted on for the others; None for seeds of their own.
        bits: Of a sample.
        metadata: The provenance is written into each file.
        sidecar: A JSON file is written beside each clip.
        force: Replace files that exist.
    """

    folder: Path
    name: str
    seed: int | None
    bits: int | None
    metadata: bool
    sidecar: bool
    force: bool

    def __post_init__(self) -> None:
        require_name(str(file_name(self.name, prompt="clip", seed=0, index=1)))


class Clips:
    """The clips of a list. Safe to use from several threads.

    Args:
        engine: Makes them.
        files: How they are written.
    """

    def __init__(self, engine: Engine, files: Files) -> None:
        self._engine, self._files = engine, files
        self._taken: set[str] = set()
        self._lock = threading.Lock()

    def checked(self, line: Line) -> tuple[Task, dict[str, Any] | None]:
        """What a line asks for, checked before any work; and the answer of the line, if its clip is there.

        Not while clips are made: that warnings are not shown meanwhile concerns all threads.

        Raises:
            SaoOnnxError: The line cannot be used, its file cannot be written, or as for `Engine.plan`.
        """
        task = self._task(line)
        try:
            if self._is_there(task):
                return task, _there(task)
            with warnings.catch_warnings():
                # They come again with the clip.
                warnings.simplefilter("ignore")
                self._engine.plan(task.request)
        except BaseException:
            self._release(task)
            raise
        return task, None

    def answer(self, line: Line) -> dict[str, Any]:
        """Make the clip of a line that was not checked before; as `make`. Its file is that of another line while it is made."""
        task = self._task(line)
        try:
            return self.make(task)
        finally:
            self._release(task)

    def make(self, task: Task) -> dict[str, Any]:
        """Make a clip, unless it is there: another process may share the list.

        Returns:
            The answer of its line: {"file": ..., "made": false} if it is there, or else with `made` true and all that is known
            of it.
        """
        files = self._files
        if self._is_there(task):
            return _there(task)
        clip = self._engine.generate(task.request)
        try:
            save(clip, task.path, force=files.force, bits=files.bits, metadata=files.metadata, sidecar=files.sidecar)
        except OutputExistsError:
            if self._is_there(task):
                return _there(task)
            raise
        return {"made": True, **describe(clip, self._engine, task.path)}

    def is_the_end(self, error: Exception) -> bool:
        """Whether an error means that no other clip could be written either."""
        folder = self._files.folder
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, OSError) and cause.errno in NOWHERE:
                return True
            cause = cause.__cause__
        return isinstance(error, FileError) and not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK))

    def _task(self, line: Line) -> Task:
        """What a line asks for. Its file is no other line's from now on.

        Raises:
            RequestError: The line cannot be used, or its file is that of another line.
        """
        from sao_onnx.request import Request

        if line.problem:
            raise RequestError(line.problem)
        written = dict(line.options)
        output = written.pop("output", None)
        options = read_options(written, from_json=line.from_json)
        if self._files.seed is not None:
            options = {"seed": self._files.seed + line.index - 1, **options}
        request = Request.from_options(line.prompt, options)
        if output is None or output == "":
            output = str(file_name(self._files.name, prompt=line.prompt, seed=request.seed or 0, index=line.index))
        path = self._files.folder / require_name(output)
        written_files = self._written(path)
        with self._lock:
            for file in written_files:
                require_name(file.name)
                if _key(file) in self._taken:
                    raise RequestError(f"{file} is the file of another line, too")
            self._taken.update(map(_key, written_files))
        return Task(line.number, path, request)

    def _release(self, task: Task) -> None:
        """Let other lines have the file of a task."""
        with self._lock:
            self._taken.difference_update(map(_key, self._written(task.path)))

    def _written(self, path: Path) -> list[Path]:
        """The files of a clip: it, and the one beside it."""
        return [path, path.with_suffix(".json")] if self._files.sidecar else [path]

    def _is_there(self, task: Task) -> bool:
        """Whether the clip was made before. If not, its files can be written.

        Raises:
            OutputExistsError: Another file has its name.
            SaoOnnxError: The file cannot be written.
        """
        files = self._files
        try:
            require_writable(task.path, files.bits, files.force, sidecar=files.sidecar)
        except OutputExistsError:
            if not os.path.lexists(task.path):
                raise  # The settings beside it are there alone.
            if reason := difference(task.path, task.request, self._engine, files.metadata):
                raise OutputExistsError(f"{task.path} exists and {reason}; --force replaces it") from None
            return True
        self._require_own(task)
        return False

    def _require_own(self, task: Task) -> None:
        """Refuse to write where the list could do harm that --force does not mean."""
        init, path = task.request.init_audio, task.path
        if isinstance(init, (str, Path)) and path.exists() and Path(init).exists() and path.samefile(init):
            raise RequestError(f"{path} is the audio that the clip starts from; choose another name")
        for file in self._written(path):
            if file.is_symlink():
                raise OutputExistsError(f"{file} is a link, which could lead out of the folder; choose another name")


def require_name(name: Any) -> str:
    """The name of a file in the folder of a list.

    Raises:
        RequestError: It is no text, or no plain name of a file on every system.
    """
    if not isinstance(name, str) or not name or NO_NAME.search(name):
        expected = 'a file name, such as kick.wav, with no folder and none of : * ? " < > |'
        raise RequestError(f"the output is {shown(name)}, expected {expected}")
    if len(os.fsencode(name)) > LONGEST_NAME:
        raise RequestError(f"the output is {shown(name)}, of {len(os.fsencode(name))} bytes, expected at most {LONGEST_NAME}")
    return name


def _there(task: Task) -> dict[str, Any]:
    return {"made": False, "file": str(task.path)}


def _key(path: Path) -> str:
    """The same for all names of a file."""
    return os.path.normcase(path)
