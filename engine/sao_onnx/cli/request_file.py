"""Lists of requests in text, CSV or JSON Lines, one a line."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass, field
from typing import Any, Literal

from sao_onnx.errors import RequestError

ListFormat = Literal["text", "csv", "jsonl"]

FORMAT_BY_SUFFIX: dict[str, ListFormat] = {".txt": "text", ".csv": "csv", ".jsonl": "jsonl"}


@dataclass(frozen=True)
class Line:
    """A request as it is written in a list.

    Attributes:
        number: Of the line in the file, from 1.
        prompt: Text.
        options: Options by name; values as numbers or text, not yet checked.
        problem: Why the line cannot be used, or "".
    """

    number: int
    prompt: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    problem: str = ""


def read_lines(text: str, format: ListFormat) -> list[Line]:
    """The requests of a list in order. A line that cannot be read is one of them, with its problem.

    Empty lines are left out; in text, lines that begin with `#` too. CSV begins with the names of its columns, and one of them
    must be `prompt`. JSON Lines are objects with `prompt`.

    Raises:
        RequestError: CSV without a column `prompt`.
    """
    if format == "text":
        rows = [(number, row.strip()) for number, row in enumerate(text.splitlines(), start=1)]
        return [Line(number, row) for number, row in rows if row and not row.startswith("#")]
    if format == "csv":
        return _csv(text)
    return [_object(number, row) for number, row in enumerate(text.splitlines(), start=1) if row.strip()]


def _csv(text: str) -> list[Line]:
    reader = csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True)
    if "prompt" not in (reader.fieldnames or ()):
        raise RequestError(f"the columns are {', '.join(reader.fieldnames or ()) or 'missing'}; one of them must be prompt")
    lines = []
    for row in reader:
        if None in row:
            lines.append(Line(reader.line_num, problem=f"found more values than the {len(reader.fieldnames or ())} columns"))
            continue
        prompt = row.pop("prompt") or ""
        lines.append(Line(reader.line_num, prompt, row, "" if prompt.strip() else "the prompt is missing"))
    return lines


def _object(number: int, row: str) -> Line:
    try:
        data = json.loads(row)
    except ValueError as error:
        return Line(number, problem=f"not JSON: {error}")
    if not isinstance(data, dict) or not isinstance(data.get("prompt"), str) or not data["prompt"].strip():
        return Line(number, problem='expected an object with "prompt", a text')
    return Line(number, data.pop("prompt"), data)
