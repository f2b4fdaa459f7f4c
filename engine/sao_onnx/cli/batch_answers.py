"""What a batch prints for each line of its list."""

from __future__ import annotations

from typing import TextIO

from sao_onnx.batch.tasks import Answer
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

    Attributes:
        to: Where to; by default stdout.
        made: Lines whose clips were made.
        there: Lines whose clips were there before.
        failed: Lines without a clip.
    """

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self.to: TextIO | None = None
        self.made = self.there = self.failed = 0

    @property
    def given(self) -> int:
        """Lines that were answered."""
        return self.made + self.there + self.failed

    def give(self, answer: Answer) -> None:
        """Answer a line.

        Raises:
            OSError: Nobody can read the answer.
        """
        if answer.about is None:
            self._problem(answer.number, answer.error or SaoOnnxError("nothing came of it"), ends=answer.ends)
            return
        if answer.about["made"]:
            self.made += 1
        else:
            self.there += 1
        if answer.about["made"] or self._as_json:
            print_result({"line": answer.number, **answer.about}, as_json=self._as_json, to=self.to)

    def _problem(self, number: int, error: Exception, *, ends: bool) -> None:
        """Answer a line that has no clip."""
        self.failed += 1
        message = str(error) if isinstance(error, SaoOnnxError) else f"{type(error).__name__}: {error}".removesuffix(": ")
        note(f"line {number}: {message}{'; the batch ends here, run it again for the rest' if ends else ''}")
        if self._as_json:
            print_result({"line": number, **describe_error(error)}, as_json=True, to=self.to)
