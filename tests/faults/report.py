"""Counts of what came of faults, and how to try again those that failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.faults.kinds import KINDS
from tests.faults.outcome import GOOD, VERDICTS
from tests.faults.pool import Tried

SHOWN = 8
"""Faults of which the numbers are named, of those that failed alike."""

LONGEST_MESSAGE = 500
"""Characters of an error message that a person still reads."""


@dataclass
class Counts:
    """What came of the faults of one kind.

    Attributes:
        verdicts: How many there are of each.
        failed: The faults that failed, by verdict and what was found.
        unreadable: Typed errors whose message has several lines or is very long.
    """

    verdicts: Counter[str] = field(default_factory=Counter)
    failed: dict[tuple[str, str], list[Tried]] = field(default_factory=dict)
    unreadable: list[int] = field(default_factory=list)

    def add(self, tried: Tried) -> None:
        """Count a fault."""
        outcome = tried.outcome
        self.verdicts[outcome.verdict] += 1
        if outcome.verdict not in GOOD:
            self.failed.setdefault((outcome.verdict, outcome.found), []).append(tried)
        elif outcome.verdict == "refused" and _unreadable(outcome.found):
            self.unreadable.append(tried.seed)


def _unreadable(message: str) -> bool:
    errors = [line for line in message.splitlines() if not line.startswith(("warning: ", "Usage: ", "Try ", "line "))]
    return len(message) > LONGEST_MESSAGE or (len(errors) > 1 and "╭" not in message)


def counted(kind: str, all_tried: Iterable[Tried]) -> Counts:
    """Count the faults of a kind."""
    counts = Counts()
    for tried in all_tried:
        counts.add(tried)
    return counts


def table(counts: dict[str, Counts]) -> list[str]:
    """A table in Markdown, a line for each kind."""
    titles = ("kind", "faults", *VERDICTS)
    lines = [" | ".join(titles), "|".join("---" for _ in titles)]
    total: Counter[str] = Counter()
    for kind, found in counts.items():
        total += found.verdicts
        lines.append(_row(f"{kind}: {KINDS[kind].about}" if kind in KINDS else kind, found.verdicts))
    lines.append(_row("all", total))
    return [f"| {line} |" for line in lines]


def _row(title: str, verdicts: Counter[str]) -> str:
    return " | ".join([title, f"{verdicts.total():,}", *(f"{verdicts[verdict]:,}" for verdict in VERDICTS)])


def failures(counts: dict[str, Counts]) -> list[str]:
    """A line for each group of faults that failed alike, and how to try one of them again."""
    lines = []
    for kind, found in counts.items():
        for (verdict, what), group in sorted(found.failed.items(), key=lambda item: -len(item[1])):
            seeds = ", ".join(str(tried.seed) for tried in sorted(group)[:SHOWN])
            example = min(group, key=lambda tried: len(tried.what))
            lines += [
                f"- {kind}, {len(group)} {verdict}: {what} (faults {seeds}{', ...' if len(group) > SHOWN else ''})",
                f"  - `python -m tests.faults --replay {kind} {example.seed}`: {printable(example.what)}",
            ]
        if found.unreadable:
            seeds = ", ".join(map(str, sorted(found.unreadable)[:SHOWN]))
            lines.append(
                f"- {kind}, allowed, {len(found.unreadable)} typed errors of several lines, or very long (faults {seeds})"
            )
    return lines


def printable(text: str, longest: int = 300) -> str:
    """Text that any terminal shows."""
    shown = text.encode("ascii", "backslashreplace").decode().replace("\n", "\\n").replace("\0", "\\0")
    return shown if len(shown) <= longest else f"{shown[:longest]}..."
