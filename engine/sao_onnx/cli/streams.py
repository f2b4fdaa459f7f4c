"""What a command writes to: stdout for results, stderr for all else, and what must not reach a terminal as it is."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Iterator
from typing import TextIO

UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, with which a text could steer a terminal; those that turn the direction of a line; halves of
characters, as which Python keeps the bytes of a name that is not UTF-8."""


def printable(text: str, keep: str = "") -> str:
    r"""A text from anywhere as it may be shown on a terminal: what is not fit for it as `\x1b`.

    Args:
        text: Of one line.
        keep: Characters that are shown as they are all the same.
    """
    return UNPRINTABLE.sub(lambda found: found[0] if found[0] in keep else _escaped(found[0]), text)


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


class Stdout(io.TextIOWrapper):
    """Results: the names of files as their own bytes, so that a script can open them; on a terminal only what is printable.

    Raises:
        FileError: What is written has no place to go, as on a full disk.
    """

    def write(self, text: str) -> int:
        """Write a text, as `io.TextIOWrapper` does."""
        shown = printable(text, keep="\n\t") if self.isatty() else text
        with writing_stdout():
            try:
                return super().write(shown)
            except UnicodeEncodeError:  # Another alphabet than this system's.
                return super().write(shown.encode(self.encoding, "backslashreplace").decode(self.encoding))

    def flush(self) -> None:
        """Write what is held back, as `io.TextIOWrapper` does."""
        with writing_stdout():
            super().flush()


@contextlib.contextmanager
def writing_stdout() -> Iterator[None]:
    """Turn errors of stdout into one of ours, and let nothing more be written to it."""
    from sao_onnx.errors import FileError

    try:
        yield
    except OSError as error:
        leave_stdout()
        if isinstance(error, BrokenPipeError | FileError):
            raise
        raise FileError(f"stdout cannot be written: {error.strerror or error}") from error


def leave_stdout() -> None:
    """Write to stdout no longer. Python, which flushes it at the end, would complain again."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


@contextlib.contextmanager
def results_alone() -> Iterator[TextIO]:
    """The stream for results. What else is printed in the block, by threads of a library, goes nowhere."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere:  # noqa: PTH123  Not a path on every system.
        results = sys.stdout
        with contextlib.redirect_stdout(nowhere):
            yield results


@contextlib.contextmanager
def nothing_on_stderr() -> Iterator[None]:
    """Keep what a library writes to stderr while it starts, past Python, from a terminal."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def prepare_streams() -> None:
    """Set up stdin, stdout and stderr, each of which may be closed."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # Or the next file that is opened would take its place, and what a library prints would go there.
            os.open(os.devnull, os.O_RDWR)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115  It stays open.
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: PTH123, SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        encoding, errors = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()
        sys.stdout = Stdout(sys.stdout.buffer, encoding, errors, line_buffering=sys.stdout.line_buffering)
