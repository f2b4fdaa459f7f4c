"""Loops: how long they are, and what the prompt says of it."""

from __future__ import annotations

import re

TAIL = 0.05
"""Seconds after the end that are cross-faded into the start."""


def loop_seconds(bpm: float, bars: int, beats: int) -> float:
    """Length of so many bars of so many beats, in seconds."""
    return bars * beats * 60 / bpm


def named_tempo(prompt: str) -> float | None:
    """Beats a minute that a prompt names, the first if there are several; None where it names none."""
    found = re.search(r"(\d{1,4}(?:\.\d{1,4})?)\s*bpm\b", prompt, re.IGNORECASE)
    return None if found is None else float(found[1])


def with_tempo(prompt: str, bpm: float | None) -> str:
    """The prompt, with the tempo, if there is one, where it names none."""
    if bpm is None or re.search(r"\d\s*bpm\b", prompt, re.IGNORECASE):
        return prompt
    return f"{prompt}, {bpm:g} BPM"
