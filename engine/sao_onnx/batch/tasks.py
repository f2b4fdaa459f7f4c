"""From a line of a list to what is to be made of it: a request, and the file that its clip goes to. Known before any work."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from sao_onnx.batch.lists import Line
from sao_onnx.batch.place import Place
from sao_onnx.errors import RequestError
from sao_onnx.file_names import FIELDS, fields, file_name
from sao_onnx.option import shown
from sao_onnx.request import Request, require_words
from sao_onnx.written_options import read_options

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


@dataclass(frozen=True)
class Task:
    """A clip to be made. Plain data, which can be sent to another machine.

    Attributes:
        number: Of its line in the list, from 1.
        name: Of its file.
        request: What is asked for.
    """

    number: int
    name: str
    request: Request


@dataclass(frozen=True)
class Answer:
    """What came of a line. Plain data, too.

    Attributes:
        number: Of the line in the list.
        about: What is told of its clip, which is there now: {"made": false, "file": ...} if it was there before, or else with
            `made` true and all that is known of it. None if there is none.
        error: Why there is none.
        ends: Whether no other clip could be made either.
        warned: What was warned of on another machine.
    """

    number: int
    about: Mapping[str, Any] | None = None
    error: Exception | None = None
    ends: bool = False
    warned: tuple[str, ...] = ()


@dataclass(frozen=True)
class Files:
    """How the clips of a list are named, seeded and written. Plain data, too.

    Attributes:
        place: For the clips.
        name: Of each file, with fields to be filled in.
        seed: Of the first request, counted on for the others; None for seeds of their own.
        bits: Of a sample.
        metadata: The provenance is written into each file.
        sidecar: A JSON file is written beside each clip.
        force: Replace files that exist.
    """

    place: Place
    name: str
    seed: int | None
    bits: int | None
    metadata: bool
    sidecar: bool
    force: bool

    def __post_init__(self) -> None:
        require_name(str(file_name(self.name, prompt="clip", seed=0, index=1, hash="0")))
        if "seed" in self.fields and self.seed is None:
            raise RequestError(
                "a name with {seed} needs --seed, or a batch that was interrupted could not find its clips again"
            )

    @property
    def fields(self) -> set[str]:
        """The fields of the name."""
        return fields(self.name, (*FIELDS, "hash"))

    def of(self, name: str) -> list[str]:
        """The files of the clip of a name: it, and the one beside it."""
        return [name, str(PurePath(name).with_suffix(".json"))] if self.sidecar else [name]


class Tasks:
    """What the lines of a list ask for. No two of them have one file. Safe to use from several threads.

    Args:
        files: How they are named.
        recipe_hash: Tells clips apart, for names that ask for it.
    """

    def __init__(self, files: Files, recipe_hash: Callable[[Request], str]) -> None:
        self._files, self._hash = files, recipe_hash if "hash" in files.fields else lambda request: ""
        self._taken: set[str] = set()
        self._lock = threading.Lock()

    def of(self, line: Line) -> Task:
        """What a line asks for. Its file is no other line's from now on.

        Raises:
            RequestError: The line cannot be used, or its file is that of another line.
            AudioFileError: The name depends on the initial audio, and it cannot be read.
        """
        if line.problem:
            raise RequestError(line.problem)
        written = dict(line.options)
        output = written.pop("output", None)
        options = read_options(written, from_json=line.from_json)
        if self._files.seed is not None:
            options = {"seed": self._files.seed + line.index - 1, **options}
        request = Request.from_options(line.prompt, options)
        require_words(request)
        if output is None or output == "":
            seed, digits = request.seed or 0, self._hash(request)
            output = str(file_name(self._files.name, prompt=line.prompt, seed=seed, index=line.index, hash=digits))
        task = Task(line.number, require_name(output), request)
        names = self._files.of(task.name)
        with self._lock:
            for name in names:
                require_name(name)
                if os.path.normcase(name) in self._taken:
                    raise RequestError(f"{self._files.place.path(name)} is the file of another line, too")
            self._taken.update(map(os.path.normcase, names))
        return task

    def release(self, task: Task) -> None:
        """Let other lines have the file of a task."""
        with self._lock:
            self._taken.difference_update(map(os.path.normcase, self._files.of(task.name)))


def require_name(name: Any) -> str:
    """The name of a file in the place of a list.

    Raises:
        RequestError: It is no text, or no plain name of a file on every system.
    """
    if not isinstance(name, str) or not name or NO_NAME.search(name):
        expected = 'a file name, such as kick.wav, with no folder and none of : * ? " < > |'
        raise RequestError(f"the output is {shown(name)}, expected {expected}")
    if len(os.fsencode(name)) > LONGEST_NAME:
        raise RequestError(f"the output is {shown(name)}, of {len(os.fsencode(name))} bytes, expected at most {LONGEST_NAME}")
    return name
