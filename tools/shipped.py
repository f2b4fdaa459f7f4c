"""Writes what the wheel brings besides Python: man pages and completions for shells, in `engine/share`.

`python -m tools.shipped` writes them; `python -m tools.shipped --check` says which are not what it would write.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tools import completions
from tools.app import read_app
from tools.manual import page, page_name

SHARE = Path(__file__).parent.parent / "engine" / "share"


def files() -> dict[str, str]:
    """The text of every file, by its path below `share`."""
    program = read_app()
    found = {f"man/man1/{page_name(command)}.1": page(command, program) for command in program.walk()}
    found["bash-completion/completions/sao-onnx"] = completions.bash(program)
    found["zsh/site-functions/_sao-onnx"] = completions.zsh(program)
    found["fish/vendor_completions.d/sao-onnx.fish"] = completions.fish(program)
    return found


def stale() -> list[str]:
    """Files that are missing, not what they should be, or of no command."""
    wanted = files()
    there = {path.relative_to(SHARE).as_posix(): path for path in SHARE.rglob("*") if path.is_file()}
    different = {name for name, text in wanted.items() if name not in there or there[name].read_text(encoding="utf-8") != text}
    return sorted(different | (there.keys() - wanted.keys()))


def main() -> int:
    """Write the files, or compare them."""
    found = stale()
    if "--check" in sys.argv[1:]:
        for name in found:
            sys.stderr.write(f"{name} is not what `python -m tools.shipped` writes\n")
        return bool(found)
    wanted = files()
    for name in found:
        path = SHARE / name
        if name in wanted:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted[name], encoding="utf-8", newline="\n")
        else:
            path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
