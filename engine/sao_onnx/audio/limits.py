"""Ranges and defaults of the last steps after decoding. Without NumPy, so that the options of a command cost no time."""

from __future__ import annotations

from typing import Literal

Normalization = Literal["peak", "lufs", "none"]
"""How the level is chosen: a peak of 1; a loudness, with a limiter; or unchanged."""

LOUDNESS = -14.0
"""Default loudness in LUFS: the level at which streaming services play music."""

QUIETEST, LOUDEST = -70.0, 0.0
"""Range of the loudness in LUFS."""

MAX_FADE = 60.0
"""Longest fade in seconds."""
