"""Ranges and defaults of audio that comes in, and of the last steps. Without NumPy: the options of a command cost no time."""

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

LOWEST_RATE, HIGHEST_RATE = 1_000, 1_000_000
"""Range of the sample rate of initial audio, in hertz. Others are no rates of sound, but mistakes and damaged headers."""

MAX_CHANNELS = 64
"""Channels of initial audio, of which a model takes the first ones."""

MAX_RECORDING = 3600.0
"""Seconds of the longest recording that can be extended. It is held in memory whole, because the clip holds it."""
