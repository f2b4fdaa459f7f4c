"""What a folder holds, and what has changed in it."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

Tree = dict[str, str]
"""By path: what is there, with a digest of its content."""


def tree(folder: Path) -> Tree:
    """All that is in a folder."""
    found = {}
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(parent) / name
            found[path.relative_to(folder).as_posix()] = _content(path)
    return found


def _content(path: Path) -> str:
    about = path.lstat()
    if stat.S_ISREG(about.st_mode):
        return f"file {hashlib.sha256(path.read_bytes()).hexdigest()}"
    return f"link to {path.readlink()}" if stat.S_ISLNK(about.st_mode) else f"kind {stat.S_IFMT(about.st_mode):o}"


def changes(before: Tree, after: Tree) -> dict[str, str]:
    """What happened to each path: "new", "gone" or "changed"."""
    found = dict.fromkeys(after.keys() - before.keys(), "new")
    found |= dict.fromkeys(before.keys() - after.keys(), "gone")
    return found | {path: "changed" for path in before.keys() & after.keys() if before[path] != after[path]}


def canaries(folder: Path) -> Path:
    """A folder of files that nobody may read or change: a recording, a text, and a FIFO at which a reader would wait."""
    import soundfile

    from tests.faults.subject import recording

    folder.mkdir()
    soundfile.write(folder / "secret.wav", recording().T, 44100)
    (folder / "victim.txt").write_text("mine")
    os.mkfifo(folder / "fifo")
    return folder
