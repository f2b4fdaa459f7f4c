"""Programs under watch: in fresh folders and without a network, what do they leave, and do they try to reach anybody?

strace lists what they ask of the system. Where it cannot be had, the counters of a network namespace tell at least of attempts
to send.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.processes import GUARD, started

NETWORK = ("socket", "connect", "bind", "sendto", "sendmsg", "sendmmsg")
FILES = ("open", "openat", "openat2", "creat", "mkdir", "mkdirat")

INTERNET = re.compile(r"socket\(AF_INET|\{sa_family=AF_INET|send(?:to|msg|mmsg)\(.*sa_family=AF_INET")
LOCAL = re.compile(r'bind\(.*(?:"::1"|"127\.0\.0\.1")')
WRITTEN = re.compile(r'(?:open\w*\(.*?"([^"]+)".*O_(?:CREAT|WRONLY|RDWR)|(?:creat|mkdir\w*)\(.*?"([^"]+)")')
COUNTERS = re.compile(r"^(?:Ip6OutNoRoutes|Ip6OutRequests|Udp6OutDatagrams)\s+(\d+)$", re.MULTILINE)

SYSTEM = ("/dev/", "/proc/", "/var/cache/fontconfig/")
"""Where the system itself keeps what programs write: devices, semaphores, its list of fonts."""

HOLD = 'code=0; "$@" || code=$?; cat /proc/net/snmp /proc/net/snmp6 > "$0"; exit $code'


@dataclass(frozen=True)
class Means:
    """How programs are watched here.

    Attributes:
        alone: Command that gives a program a network of its own, with nobody in it; empty where that cannot be had.
        trace: Command that lists what a program asks of the system, in the file that follows; empty where that cannot be had.
    """

    alone: tuple[str, ...]
    trace: tuple[str, ...]


@functools.cache
def means() -> Means:
    """How programs can be watched here; skips the test where they cannot be."""

    def works(*command: str) -> bool:
        if shutil.which(command[0]) is None:
            return False
        return subprocess.run([*command, "true"], capture_output=True, check=False, timeout=GUARD).returncode == 0

    alone = ("unshare", "-rn") if works("unshare", "-rn") else ()
    # With the filter, which older releases lack, only the calls that are listed cost time.
    calls = ",".join(f"?{name}" for name in NETWORK + FILES)
    trace: tuple[str, ...] = (
        "strace",
        "-f",
        "--seccomp-bpf",
        "-qq",
        "-s",
        "500",
        "-e",
        f"trace={calls}",
        "-e",
        "signal=none",
        "-o",
    )
    if not works(*alone, *trace, os.devnull):
        trace = ()
    if not alone and not trace:
        pytest.skip("neither strace nor a network namespace can be had here")
    return Means(alone, trace)


@dataclass(frozen=True)
class Watched:
    """A program that is watched, and the fresh folder that it takes for the home of its user."""

    process: subprocess.Popen[Any]
    root: Path

    @property
    def folder(self) -> Path:
        """Where it runs."""
        return self.root / "work"

    def left(self) -> set[str]:
        """Files, and folders without any, below the fresh folder."""
        paths = [path for place in self.root.iterdir() if place.is_dir() for path in place.rglob("*")]
        return {path.relative_to(self.root).as_posix() for path in paths if not path.is_dir() or not any(path.iterdir())}

    def written_elsewhere(self) -> set[str]:
        """Paths outside of the fresh folder that were opened to be written to, as far as strace was there to see it."""
        names = {name for line in self._calls() if "= -1" not in line for name in self._names(line)}
        return {name for name in names if name.startswith("/") and not name.startswith((f"{self.root}/", *SYSTEM))}

    @staticmethod
    def _names(line: str) -> list[str]:
        return [name for groups in WRITTEN.findall(line) for name in groups if name]

    def reached_out(self, *, may_listen: bool = False) -> list[str]:
        """What it did to reach anybody; empty if it did nothing.

        Args:
            may_listen: It may open a socket that it binds to this machine, as urllib3 does to see whether there is IPv6.
        """
        if means().trace:
            found = [line for line in self._calls() if INTERNET.search(line)]
            if may_listen:
                found = [line for line in found if not LOCAL.search(line) and "socket(" not in line]
            return found
        live = Path(f"/proc/{self.process.pid}/net")
        kept = self.root / "counters"
        text = kept.read_text() if kept.exists() else "".join((live / name).read_text() for name in ("snmp", "snmp6"))
        return [f"{count} packets for somewhere" for count in _counts(text) if count]

    def _calls(self) -> list[str]:
        trace = self.root / "trace"
        return trace.read_text(errors="replace").splitlines() if trace.exists() else []


def _counts(text: str) -> Iterator[int]:
    """Packets that were sent, or had nowhere to go, of /proc/net/snmp and snmp6."""
    lines = text.splitlines()
    for names, values in itertools.pairwise(lines):
        kind, _, rest = names.partition(":")
        if kind in {"Ip", "Udp", "Tcp"} and values.startswith(f"{kind}:") and not rest.split()[0].lstrip("-").isdigit():
            pairs = dict(zip(rest.split(), map(int, values.split()[1:]), strict=True))
            yield from (pairs.get(name, 0) for name in ("OutNoRoutes", "OutDatagrams", "ActiveOpens"))
    yield from map(int, COUNTERS.findall(text))


@contextlib.contextmanager
def watched(root: Path, command: Sequence[object], **options: Any) -> Iterator[Watched]:
    """A program under watch, in a fresh folder below `root`, which is made. Nothing that it sends leaves this machine."""
    places = {"HOME": "home", "TMPDIR": "tmp"}
    places |= {f"XDG_{kind}_HOME": kind.lower() for kind in ("CACHE", "CONFIG", "DATA", "STATE")}
    for name in ("work", *places.values()):
        (root / name).mkdir(parents=True, exist_ok=True)
    # Not the variables of a build service, which silence ONNX Runtime on their own.
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG") if name in os.environ}
    nobody = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9")
    environment = {
        **kept,
        **nobody,
        **{variable: str(root / name) for variable, name in places.items()},
        # Beside the modules of a checkout, where Python puts them.
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    trace = means().trace
    how = [*means().alone, *((*trace, root / "trace") if trace else ("sh", "-c", HOLD, root / "counters"))]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with started([*how, *command], cwd=root / "work", env=environment, **pipes, **options) as process:
        yield Watched(process, root)


def watch(root: Path, command: Sequence[object]) -> Watched:
    """Run a program under watch, which must succeed."""
    with watched(root, command) as seen:
        stdout, stderr = seen.process.communicate(timeout=GUARD)
    assert seen.process.returncode == 0, f"{command}\n{stdout}\n{stderr}"
    return seen
