"""Where the machine code of a file asks which instructions the processor has: the addresses of its `cpuid` instructions.

    python bench/cpuid.py OBJDUMP FILE LIST

writes them to LIST, one a line. The two bytes of `cpuid` also occur in data and inside other instructions, so the function
around each occurrence is disassembled from its beginning. Needs the standard library and binutils' objdump. `processors.c` runs
it for what programs load.
"""

from __future__ import annotations

import mmap
import re
import struct
import subprocess
import sys
import tempfile
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path

CPUID = b"\x0f\xa2"

X86_64, FRAMES, EXECUTABLE = 62, 0x6474E550, 4
"""Numbers of the ELF format: a machine, the type of the segment that lists functions, the flag of sections with code."""

FURTHEST = 1 << 14
"""Bytes of code that are read before an occurrence at most. Some code is in no table of functions; read from the midst of an
instruction, it is read rightly after a few."""

BETWEEN = b"\x90" * 16
"""Instructions `nop` after each piece of code: no instruction is longer, so that none reaches into the next piece."""


def places(path: Path, objdump: str) -> list[int]:
    """Addresses of the `cpuid` instructions of a program or a shared object, before it is moved to where it is loaded.

    Args:
        path: The file. One that is not ELF for x86-64 has none.
        objdump: binutils' program of this name.

    Raises:
        subprocess.CalledProcessError: objdump failed.
    """
    if path.stat().st_size < 64:
        return []
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content[:5] != b"\x7fELF\x02" or struct.unpack_from("<H", content, 18)[0] != X86_64:
            return []
        pieces = list(_pieces(content))
    return sorted(_instructions(pieces, objdump))


def _pieces(content: mmap.mmap) -> Iterator[tuple[int, bytes]]:
    """Address of each occurrence of the bytes of `cpuid` in code, and all from the beginning of its function to its end."""
    base, functions = _functions(content)
    for address, offset, size in _sections(content):
        at = content.find(CPUID, offset, offset + size)
        while at >= 0:
            place = at - offset + address
            i = bisect_right(functions, place - base)
            start = max(address, place - FURTHEST, base + functions[i - 1] if i else 0)
            yield place, content[start - address + offset : at + len(CPUID)]
            at = content.find(CPUID, at + 1, offset + size)


def _sections(content: mmap.mmap) -> Iterator[tuple[int, int, int]]:
    """Address, offset in the file and size of each section with code."""
    (table,) = struct.unpack_from("<Q", content, 40)
    size, count = struct.unpack_from("<HH", content, 58)
    if not count:
        raise ValueError("the file has no table of sections, so that its code cannot be told from its data")
    for i in range(count):
        flags, address, offset, length = struct.unpack_from("<QQQQ", content, table + i * size + 8)
        if flags & EXECUTABLE:
            yield address, offset, length


def _functions(content: mmap.mmap) -> tuple[int, array[int]]:
    """An address, and how far from it each function begins, in order: what unwinding of the stack looks up."""
    (table,) = struct.unpack_from("<Q", content, 32)
    size, count = struct.unpack_from("<HH", content, 54)
    for i in range(count):
        kind, _, offset, address = struct.unpack_from("<IIQQ", content, table + i * size)
        # The usual encodings of the table: relative to itself, in 32 bits.
        if kind == FRAMES and content[offset : offset + 4] == b"\x01\x1b\x03\x3b":
            (length,) = struct.unpack_from("<I", content, offset + 8)
            return address, array("i", content[offset + 12 : offset + 12 + 8 * length])[::2]
    return 0, array("i")


def _instructions(pieces: list[tuple[int, bytes]], objdump: str) -> Iterator[int]:
    """Which occurrences are instructions, each at the end of its piece of code."""
    if not pieces:
        return
    ends, length = {}, 0
    with tempfile.NamedTemporaryFile() as code:
        for place, piece in pieces:
            length += code.write(piece)
            ends[length - len(CPUID)] = place
            length += code.write(BETWEEN)
        code.flush()
        command = [objdump, "-D", "-z", "-b", "binary", "-m", "i386:x86-64", "--no-show-raw-insn", code.name]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                found = re.fullmatch(r"\s*([0-9a-f]+):\tcpuid\s*", line)
                if found and (at := int(found[1], 16)) in ends:
                    yield ends[at]
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)


def main(objdump: str, path: str, target: str) -> None:
    """Write the list, all at once: other processes may look for it."""
    text = "".join(f"{place:x}\n" for place in places(Path(path), objdump))
    with tempfile.NamedTemporaryFile("w", dir=Path(target).parent, delete=False) as stream:
        stream.write(text)
    Path(stream.name).replace(target)


if __name__ == "__main__":
    main(*sys.argv[1:])
