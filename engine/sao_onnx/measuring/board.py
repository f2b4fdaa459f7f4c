"""What Linux tells of the state of a machine: heat, clocks, who else works on it. On other systems most of it is unknown."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sao_onnx.runtime import control_groups, kernel_files
from sao_onnx.runtime.processor import allowed_by_control_groups

ROOT = Path("/")

PAGE = 4096
"""Bytes of the pages in which the kernel counts what is swapped. Kernels with larger pages swap more than is said here."""

TICKS = 100
"""In a second, of the kernel's counters of time (USER_HZ): the same on all architectures that there are builds for."""


@dataclass(frozen=True)
class Settings:
    """What does not change while a measurement runs.

    Attributes:
        present: Logical processors that are switched on; None if unknown.
        cpu_limit: Processors' time that control groups allow; None without a limit.
        memory_limit: Bytes that control groups allow; None without a limit.
        governors: How the kernel chooses clocks, each governor once.
        fastest: Highest clock of each group of processors in megahertz; 0 where unknown.
    """

    present: int | None
    cpu_limit: float | None
    memory_limit: int | None
    governors: tuple[str, ...]
    fastest: tuple[float, ...]


@dataclass(frozen=True)
class Moment:
    """The state of the machine right after a part of the measurement.

    Attributes:
        part: What was done last; "" at the beginning.
        seconds: Since the beginning.
        temperature: Of the hottest sensor in degrees Celsius; None if unknown.
        clocks: Of each group of processors in megahertz, in the order of `Settings.fastest`; 0 where unknown.
        throttled: What the firmware of a Raspberry Pi says (`vcgencmd get_throttled`); None elsewhere.
    """

    part: str
    seconds: float
    temperature: float | None
    clocks: tuple[float, ...]
    throttled: int | None


@dataclass(frozen=True)
class Usage:
    """Counters of the kernel since it was started.

    Attributes:
        busy: Seconds that processors worked, all together.
        stolen: Seconds that a virtual machine's host gave to others.
        swapped: Bytes that were moved to and from swap.
    """

    busy: float
    stolen: float
    swapped: int


def settings(root: Path = ROOT) -> Settings:
    """Read what does not change.

    Args:
        root: Of the file system; another one is for tests.
    """
    processors = re.findall(r"^cpu\d+ ", _read(root, "proc/stat"), re.MULTILINE)
    governors = dict.fromkeys(filter(None, (_read(path, "scaling_governor").strip() for path in _policies(root))))
    fastest = tuple(_megahertz(path, "cpuinfo_max_freq") for path in _policies(root))
    limit = min(allowed_by_control_groups(), default=None)
    return Settings(len(processors) or None, limit, memory_limit(), tuple(governors), fastest)


def moment(part: str, seconds: float, root: Path = ROOT, firmware: Callable[[], str] | None = None) -> Moment:
    """Read the state of the machine as it is now.

    Args:
        part: What was done last.
        seconds: Since the beginning.
        root: Of the file system; another one is for tests.
        firmware: Returns what `vcgencmd get_throttled` prints; by default it is asked.
    """
    clocks = tuple(_megahertz(path, "scaling_cur_freq") for path in _policies(root))
    said = (firmware or _firmware)()
    found = re.search(r"throttled=0x([0-9a-fA-F]+)", said)
    return Moment(part, seconds, temperature(root), clocks, int(found[1], 16) if found else None)


def temperature(root: Path = ROOT) -> float | None:
    """Degrees Celsius of the hottest sensor; of those of the processor, where any is named so. None where there is none."""
    zones: list[tuple[str, float]] = []
    for path in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        if re.fullmatch(r"-?\d+", text := _read(path, "temp").strip()):
            zones.append((_read(path, "type").strip(), int(text) / 1000))
    named = [degrees for kind, degrees in zones if re.search("cpu|soc|pkg|core", kind, re.IGNORECASE)]
    return max(named or [degrees for _, degrees in zones], default=None)


def usage(root: Path = ROOT) -> Usage | None:
    """The kernel's counters; None where it has none."""
    if not (found := re.search(r"^cpu +([\d ]+)$", _read(root, "proc/stat"), re.MULTILINE)):
        return None
    # user, nice, system, idle, iowait, irq, softirq, steal. Waiting for a disk is no work.
    numbers = [*map(int, found[1].split()), *[0] * 8][:8]
    pages = re.findall(r"^pswp(?:in|out) (\d+)$", _read(root, "proc/vmstat"), re.MULTILINE)
    return Usage(
        sum(numbers[i] for i in (0, 1, 2, 5, 6)) / TICKS,
        numbers[7] / TICKS,
        PAGE * sum(map(int, pages)),
    )


def load_average(root: Path = ROOT) -> float | None:
    """Programs that ran or waited to run during the last minute, on average; None where the system does not say."""
    words = _read(root, "proc/loadavg").split()
    return float(words[0]) if words else None


def swap_used(root: Path = ROOT) -> int:
    """Bytes of swap space that are used; 0 where the system does not say."""
    total, free = (_kilobytes(_read(root, "proc/meminfo"), name) for name in ("SwapTotal", "SwapFree"))
    return max(0, total - free)


def memory_limit() -> int | None:
    """The smallest limit in bytes that a control group of this process sets; None without one."""
    names = {True: "memory.limit_in_bytes", False: "memory.max"}
    said = (kernel_files.read(f"{folder}/{names[older]}").strip() for folder, older in control_groups.folders("memory"))
    # The older version has a number that no machine reaches for no limit.
    return min((int(text) for text in said if text.isdigit() and int(text) < 1 << 60), default=None)


def _kilobytes(text: str, name: str) -> int:
    found = re.search(rf"^{name}:\s*(\d+) kB$", text, re.MULTILINE)
    return 1024 * int(found[1]) if found else 0


def _policies(root: Path) -> list[Path]:
    """A folder for each group of processors that share a clock."""
    return sorted(
        (root / "sys/devices/system/cpu/cpufreq").glob("policy*"), key=lambda path: int(path.name[len("policy") :] or 0)
    )


def _megahertz(folder: Path, name: str) -> float:
    """A clock from a file in kilohertz; 0 where it cannot be read."""
    text = _read(folder, name).strip()
    return int(text) / 1000 if text.isdigit() else 0.0


def _read(folder: Path, name: str) -> str:
    return kernel_files.read(str(folder / name))


def _firmware() -> str:
    """What the firmware of a Raspberry Pi says; "" elsewhere, or where it may not be asked."""
    if (program := shutil.which("vcgencmd")) is None:
        return ""
    try:
        return subprocess.run([program, "get_throttled"], capture_output=True, text=True, timeout=5, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
