"""Full disks, little memory, few open files: a typed error or the right files; at worst the process ends without a file."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import resource
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.faults import jobs
from tests.faults.command import Ended
from tests.faults.folders import tree
from tests.faults.jobs import chosen, forked, judged, set_up
from tests.faults.outcome import Fault, Outcome, wrong

CLONE_NEWNS = 0x20000
MS_RDONLY, MS_REMOUNT, MS_REC, MS_PRIVATE = 1, 32, 16384, 1 << 18


class Limit(NamedTuple):
    """A limit.

    Attributes:
        share: How often it is tried.
        most: The largest size that is tried.
        apply: Sets it, in the process of the command, or before it begins in the folder of the command.
        of_process: Which of both.
    """

    share: int
    most: int
    apply: Callable[[Path, int], object]
    of_process: bool = True


def start() -> None:
    """As for all commands; mounts of this process are its own, where it may have such."""
    jobs.start()
    if os.geteuid() == 0:
        library = ctypes.CDLL(None, use_errno=True)
        if library.unshare(CLONE_NEWNS) == 0:
            library.mount(None, b"/", None, MS_REC | MS_PRIVATE, None)


def _mount(work: Path, flags: int, options: str) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if library.mount(b"tmpfs", os.fsencode(work), b"tmpfs", flags, options.encode()) != 0:
        raise PermissionError(os.strerror(ctypes.get_errno()))


def _address_space(folder: Path, size: int) -> None:
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + size * 1_000_000,) * 2)


def _data(folder: Path, size: int) -> None:
    held = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_DATA, (held + size * 1_000_000,) * 2)


def _files(folder: Path, size: int) -> None:
    count = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (count + size,) * 2)


LIMITS = {
    "size of files": Limit(3, 60_000, lambda work, size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))),
    "a disk of so many pages": Limit(4, 40, lambda work, size: _mount(work, 0, f"size={(size + 1) * 4096}"), of_process=False),
    "a disk for so many files": Limit(2, 12, lambda work, size: _mount(work, 0, f"nr_inodes={size + 12}"), of_process=False),
    "a disk that cannot be written": Limit(1, 1, lambda work, size: None, of_process=False),
    "megabytes of address space": Limit(6, 250, _address_space),
    "megabytes of data": Limit(4, 250, _data),
    "more open files": Limit(3, 25, _files),
}
"""Every limit with what it takes."""


def prepare(rng: random.Random, folder: Path) -> Fault:
    """A command under a limit."""
    name, job = chosen(rng)
    which = rng.choices(list(LIMITS), [limit.share for limit in LIMITS.values()])[0]
    size = rng.randrange(LIMITS[which].most)
    work = folder / "work"
    if LIMITS[which].of_process:
        set_up(job, folder)
        return Fault(f"{name}: {which}, {size}", lambda: _judged(name, folder, which, size))
    work.mkdir()
    return Fault(f"{name}: {which}, {size}", lambda: _on_a_disk(name, folder, which, size))


def _on_a_disk(name: str, folder: Path, which: str, size: int) -> Outcome:
    """On a small file system of its own. What the command finds there fits; what it writes may not."""
    library = ctypes.CDLL(None)
    work = os.fsencode(folder / "work")
    try:
        _mount(folder / "work", 0, "")
    except PermissionError:
        return Outcome("allowed", "not tried: only root may mount")
    try:
        set_up(jobs.JOBS[name], folder)
        if which == "a disk that cannot be written":
            options = (MS_REMOUNT | MS_RDONLY, b"")
        else:
            about = os.statvfs(folder / "work")
            pages, inodes = about.f_blocks - about.f_bfree, about.f_files - about.f_ffree
            options = (
                MS_REMOUNT,
                (f"size={(pages + size) * about.f_bsize}" if "pages" in which else f"nr_inodes={inodes + size}").encode(),
            )
        if library.mount(b"tmpfs", work, b"tmpfs", *options) != 0:
            return Outcome("allowed", "not tried: the file system cannot be made smaller")
        outcome = _judged(name, folder, "", 0)
        # What is checked is checked without the limit.
        library.mount(b"tmpfs", work, b"tmpfs", MS_REMOUNT, b"size=100%,nr_inodes=0")
        return outcome
    finally:
        with contextlib.suppress(OSError):
            os.chdir("/")
        library.umount2(work, 2)


def _judged(name: str, folder: Path, which: str, size: int) -> Outcome:
    before = tree(folder / "work")
    work = folder / "work"
    ended = forked(name, folder, (lambda: _apply(which, work, size)) if which else None)
    if ended.code is not None and ended.code < 0:
        return _killed(name, folder, before, ended)
    outcome = judged(name, folder, before, ended)
    if outcome.verdict == "untyped" and "memory" in ended.err.lower() and "Fatal" in outcome.found:
        return Outcome("allowed", "the process ended")
    return outcome


def _apply(which: str, work: Path, size: int) -> None:
    LIMITS[which].apply(work, size)


def _killed(name: str, folder: Path, before: dict[str, str], ended: Ended) -> Outcome:
    """The process ended by a signal, as programs do whose memory cannot be had; no file may be half."""
    outcome = judged(name, folder, before, ended._replace(err="", code=ended.code), may_be_silent=True)
    if outcome.verdict != "allowed":
        return outcome if outcome.verdict == "wrong" else wrong(f"ended by signal {-(ended.code or 0)}")
    return Outcome("allowed", f"ended by signal {-(ended.code or 0)}, files whole or absent")
