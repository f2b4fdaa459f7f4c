"""A part of a list, for one of several machines that know nothing of each other."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sao_onnx.batch.lists import Line
from sao_onnx.errors import RequestError

MOST = 999_999_999
"""Shards of a list."""


@dataclass(frozen=True)
class Shard:
    """Every so many lines of a list. The shards of one count have each line once; seeds and names are those of the whole list.

    Attributes:
        index: Which of them, from 1.
        count: How many there are.
    """

    index: int
    count: int

    @classmethod
    def read(cls, text: str) -> Shard:
        """A shard as it is written: 3/20 is the third of twenty.

        Raises:
            RequestError: It is none of these.
        """
        found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            hint = "; they are counted from 1, so add 1 to an index from 0" if found and int(found[1]) == 0 else ""
            if re.fullmatch(r"[0-9]+/[0-9]{10,}", text):
                hint = f" and of at most {MOST:,}"
            raise RequestError(f"the shard is {text[:40]!r}, expected which of how many, such as 3/20{hint}")
        return cls(int(found[1]), int(found[2]))

    def holds(self, line: Line) -> bool:
        """Whether a line is one of its own."""
        return line.index % self.count == self.index % self.count

    def of(self, lines: Iterable[Line]) -> Iterator[Line]:
        """Its own of the lines of a list."""
        return filter(self.holds, lines)
