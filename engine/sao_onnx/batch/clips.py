"""From a line to a clip in its place, or to the reason why there is none."""

from __future__ import annotations

import contextlib
import errno
import warnings
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

from sao_onnx.batch.lists import Line
from sao_onnx.batch.made_before import difference, recipe_hash
from sao_onnx.batch.tasks import Answer, Files, Task, Tasks
from sao_onnx.engine import Engine
from sao_onnx.errors import FileError, OutputExistsError, SaoOnnxError
from sao_onnx.outcome import describe, require_format, sidecar
from sao_onnx.provenance import read_provenance

NOWHERE = {errno.ENOSPC, errno.EROFS, errno.EIO, getattr(errno, "EDQUOT", errno.ENOSPC), getattr(errno, "ESTALE", errno.EIO)}
"""What the operating system says where no other clip could be written either."""


class Clips:
    """The clips of a list. Safe to use from several threads.

    Args:
        engine: Makes them.
        files: How they are written.
    """

    def __init__(self, engine: Engine, files: Files) -> None:
        self._engine, self._files = engine, files
        self._tasks = Tasks(files, lambda request: recipe_hash(request, engine, files.bits))

    def reserve(self, line: Line) -> None:
        """Keep the file of a line that is made elsewhere from the others. One that cannot be used has none."""
        with contextlib.suppress(SaoOnnxError):
            self._tasks.of(line)

    def checked(self, line: Line) -> Task | Answer:
        """What a line asks for, checked before any work; or its answer, if it cannot be used or its clip is there.

        Not while clips are made: that warnings are not shown meanwhile concerns all threads.
        """
        try:
            task = self._tasks.of(line)
        except Exception as error:  # noqa: BLE001  Whatever is wrong with a line, the others go on.
            return self._failed(line.number, error)
        try:
            if about := self._there(task):
                return Answer(line.number, about)
            with warnings.catch_warnings():
                # They come again with the clip.
                warnings.simplefilter("ignore")
                self._engine.plan(task.request)
        except Exception as error:  # noqa: BLE001
            self._tasks.release(task)
            return self._failed(line.number, error)
        return task

    def answer(self, line: Line) -> Answer:
        """Make the clip of a line that was not checked before; as `make`. Its file is that of another line while it is made."""
        try:
            task = self._tasks.of(line)
        except Exception as error:  # noqa: BLE001
            return self._failed(line.number, error)
        try:
            return self.make(task)
        finally:
            self._tasks.release(task)

    def make(self, task: Task) -> Answer:
        """Make a clip, unless it is there: another process may share the list."""
        try:
            return Answer(task.number, self._there(task) or self._made(task))
        except Exception as error:  # noqa: BLE001
            return self._failed(task.number, error)

    def _made(self, task: Task) -> dict[str, Any]:
        files, path = self._files, PurePath(task.name)
        clip = self._engine.generate(task.request)
        data = clip.encoded(path.suffix, bits=files.bits, metadata=files.metadata)
        try:
            files.place.write(task.name, data, files.force)
            for name in files.of(task.name)[1:]:
                files.place.write(name, sidecar(replace(clip.provenance, bits=files.bits)), files.force)
        except OutputExistsError:
            if about := self._there(task):
                return about
            raise
        return {"made": True, **describe(clip, self._engine, files.place.path(task.name))}

    def _there(self, task: Task) -> dict[str, Any] | None:
        """What is told of a clip that was made before; None where it was not, and its files can be written.

        Raises:
            OutputExistsError: Another file has its name.
            SaoOnnxError: The file cannot be written.
        """
        files, place = self._files, self._files.place
        require_format(PurePath(task.name), files.bits)
        try:
            for name in files.of(task.name):
                place.require_free(name, files.force)
        except OutputExistsError:
            if not place.is_there(task.name):
                raise  # The settings beside it are there alone.
            with place.reading(task.name) as path:
                if reason := difference(path, task.request, self._engine, files.bits, files.metadata):
                    raise OutputExistsError(f"{place.path(task.name)} exists and {reason}; --force replaces it") from None
                self._complete(task, path)
            return {"made": False, "file": place.path(task.name)}
        for name in files.of(task.name):
            place.require_own(name, task.request)
        return None

    def _complete(self, task: Task, path: Path) -> None:
        """Write the file beside a clip, where the program was killed that had written the clip."""
        files = self._files
        for name in files.of(task.name)[1:]:
            if files.metadata and not files.place.is_there(name):
                files.place.write(name, sidecar(read_provenance(path)), files.force)

    def _failed(self, number: int, error: Exception) -> Answer:
        return Answer(number, error=error, ends=self._is_the_end(error))

    def _is_the_end(self, error: Exception) -> bool:
        """Whether an error means that no other clip could be written either."""
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, OSError) and cause.errno in NOWHERE:
                return True
            cause = cause.__cause__
        return isinstance(error, FileError) and not self._files.place.is_usable()
