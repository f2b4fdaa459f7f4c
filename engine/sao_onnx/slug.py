"""A prompt as part of a file name that is safe on every file system."""

from __future__ import annotations

import re
import sys
import unicodedata

LONGEST = 60
"""Bytes of a prompt in a name. File systems take names of 255 bytes, or fewer."""

LETTERS = ("L", "Nd")
MARKS = ("Mn", "Mc")
"""What words are made of in all scripts, by Unicode's categories: letters and digits, and the marks that they bear."""

INVISIBLE = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")
"""Characters of these categories that nobody sees."""

RESERVED = re.compile("con|prn|aux|nul|com[0-9]|lpt[0-9]")
"""Names that Windows gives no file."""


def slug(prompt: str) -> str:
    """A prompt as part of a file name: letters and digits of any script, in lower case, with hyphens between the words.

    What the names of this system cannot hold is left out, so it need not be the same everywhere.
    """
    kept = ""
    for character in unicodedata.normalize("NFC", INVISIBLE.sub("", prompt.lower())):
        category = unicodedata.category(character)
        if category.startswith(LETTERS) or (category in MARKS and kept[-1:] not in ("", "-")):
            kept += character
        elif category != "Cf" and kept[-1:] != "-":  # Formats, such as joiners, are inside of words.
            kept += "-"
    held = kept.encode(sys.getfilesystemencoding(), "ignore").decode(sys.getfilesystemencoding()).strip("-")
    name = held.encode()[:LONGEST].decode(errors="ignore").rstrip("-") or "clip"
    return f"{name}-clip" if RESERVED.fullmatch(name) else name
