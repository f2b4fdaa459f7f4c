"""What the documents of the repository hold: blocks of code, commands, and what a test may do with them."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import ROOT

PATTERNS = (
    "*.md",
    ".github/**/*.md",
    "bench/**/*.md",
    "docs/**/*.md",
    "engine/**/*.md",
    "models/**/*.md",
    "tests/**/*.md",
)

FENCE = re.compile(r"^(?:<!-- not run: (?P<reason>[^\n]*?) ?-->\n)?^```(?P<language>[\w-]*)\n(?P<text>.*?)^```$", re.S | re.M)


OURS = re.compile(r"(?:time |[A-Z]\w*=\S* )*(?:docker run .* )?sao-onnx +(.*)")
"""A command of ours, perhaps in a container."""


def documents() -> list[Path]:
    """All documents in Markdown, without those of packages that are installed here."""
    found = {path for pattern in PATTERNS for path in ROOT.glob(pattern)}
    return sorted(path for path in found if not {"node_modules", "site"} & set(path.relative_to(ROOT).parts))


def pages() -> list[Path]:
    """The documents whose commands are run: the README and the pages of the site."""
    return [path for path in documents() if path == ROOT / "README.md" or ROOT / "docs" in path.parents]


def name(path: Path) -> str:
    """Of a document, for people."""
    return path.relative_to(ROOT).as_posix()


@dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes:
        language: After the fence, "" for none.
        text: Its lines.
        reason: Why it is not run here; None where it is.
    """

    language: str
    text: str
    reason: str | None


def blocks(path: Path, language: str | None = None) -> list[Block]:
    """The blocks of code of a document, by default of all languages."""
    found = FENCE.finditer(path.read_text(encoding="utf-8"))
    every = [Block(match["language"], match["text"], match["reason"]) for match in found]
    return [block for block in every if language in (None, block.language)]


def prose(path: Path) -> str:
    """A document without its blocks of code."""
    return FENCE.sub("", path.read_text(encoding="utf-8"))


def spans(path: Path) -> list[str]:
    """What stands between backquotes in the text of a document."""
    return re.findall(r"(?<!`)`([^`\n]+)`(?!`)", prose(path))


def lines(script: str) -> list[str]:
    """The lines of a script, without remarks, those that go on put together."""
    joined = script.replace("\\\n", " ")
    return [line for line in map(str.strip, joined.splitlines()) if line and not line.startswith("#")]


def plain(line: str) -> list[str] | None:
    """The words of a line that is one command of ours without any help of a shell; None for any other line."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>$`")
    lexer.whitespace_split = True
    lexer.commenters = "#"
    try:
        words = list(lexer)
    except ValueError:
        return None
    if words[:1] != ["sao-onnx"] or any(word and not set(word) - set("|&;<>$`") for word in words) or "$" in line:
        return None
    return words[1:]


def commands(script: str) -> list[list[str]]:
    """The words of every command of ours in a script, wherever it stands in a line."""
    found = []
    for line in lines(script):
        for part in re.split(r"\|\|?|&&|;", line):
            if match := OURS.match(part.strip()):
                text = re.split(r"\s[<>]\s", match[1])[0]
                if text.count('"') % 2:  # The command is in a text itself, as in ssh "cd clips && sao-onnx ...".
                    text = text.rpartition('"')[0]
                found.append(shlex.split(text, comments=True))
    return found


def command_line() -> Any:
    """The command line as click knows it."""
    from typer.main import get_command

    from sao_onnx.cli.commands import app

    return get_command(app)


def resolve(words: list[str]) -> tuple[Any, list[str]]:
    """The command that words begin with, and the words that are left for it.

    Raises:
        KeyError: There is no such command.
    """
    found, rest = command_line(), list(words)
    while rest and not rest[0].startswith("-") and hasattr(found, "commands"):
        found = found.commands[rest.pop(0)]
    return found, rest


def option_names(command: Any) -> set[str]:
    """Every way to write an option of a command."""
    return {"--help", "-h"} | {name for option in command.params for name in (*option.opts, *option.secondary_opts)}


def written_options(words: list[str]) -> set[str]:
    """The options among the words of a command: what begins with hyphens and is no number."""
    return {word.partition("=")[0] for word in words if re.fullmatch(r"--?[a-zA-Z][\w-]*(=.*)?", word)}
