"""What a batch prints for each line of its list."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import typer

from sao_onnx.cli.results import describe_error, print_result
from sao_onnx.cli.terminal import note
from sao_onnx.errors import SaoOnnxError


class Answers:
    """Prints an answer for each line, and counts them.

    With JSON, every line has one on stdout: {"line": 1, "made": true, "file": ..., ...}, where `made` is false if the same clip
    was there before, or {"line": 1, "error": {"type": ..., "message": ...}}. Without it, stdout has the names of the files that
    were made. Problems go to stderr as well.

    Args:
        as_json: Whether it is JSON.
        is_the_end: Whether an error will be that of every other line.

    Attributes:
        made: Lines whose clips were made.
        there: Lines whose clips were there before.
        failed: Lines without a clip.
    """

    def __init__(self, as_json: bool, is_the_end: Callable[[Exception], bool]) -> None:
        self._as_json, self._is_the_end = as_json, is_the_end
        self.made = self.there = self.failed = 0

    @property
    def given(self) -> int:
        """Lines that were answered."""
        return self.made + self.there + self.failed

    def give(self, number: int, result: Callable[[], Mapping[str, Any]]) -> bool:
        """Answer a line with what a function returns, as `Clips.make`, or with the error that it raises.

        Returns:
            Whether other lines can still be made.

        Raises:
            OSError: Nobody can read the answer.
        """
        try:
            about = result()
        except Exception as error:  # noqa: BLE001  Whatever happened to a line, the others go on.
            ends = self._is_the_end(error)
            self.problem(number, error, "; the batch ends here, run it again for the rest" if ends else "")
            return not ends
        self.result(number, about)
        return True

    def result(self, number: int, about: Mapping[str, Any]) -> None:
        """Answer a line whose clip is there now."""
        if about["made"]:
            self.made += 1
        else:
            self.there += 1
        if about["made"] or self._as_json:
            print_result({"line": number, **about}, as_json=self._as_json)

    def problem(self, number: int, error: Exception, ending: str = "") -> None:
        """Answer a line that has no clip."""
        self.failed += 1
        if isinstance(error, SaoOnnxError):
            message = str(error)
        elif isinstance(error, typer.BadParameter):
            message = error.message
        else:
            message = f"{type(error).__name__}: {error}".removesuffix(": ")
        note(f"line {number}: {message}{ending}")
        if self._as_json:
            print_result({"line": number, **describe_error(error)}, as_json=True)
