from __future__ import annotations

import pytest

from sao_onnx import machine
from sao_onnx.bundle import open_bundle
from sao_onnx.memory import estimate_peak

PI = """processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer\t: 0x41

Model\t\t: Raspberry Pi 5 Model B Rev 1.0
"""


def _machine(monkeypatch, files, architecture):
    monkeypatch.setattr(machine, "_read", lambda path: files.get(path, ""))
    monkeypatch.setattr(machine.platform, "machine", lambda: architecture)
    return machine.describe_machine()


def test_a_raspberry_pi(monkeypatch):
    found = _machine(
        monkeypatch, {"/proc/cpuinfo": PI, "/proc/meminfo": "MemTotal:  8000 kB\nMemAvailable:  4000 kB\n"}, "aarch64"
    )
    assert found.processor == "Raspberry Pi 5 Model B Rev 1.0"
    assert found.features == ("asimd", "asimddp", "fphp")
    assert (found.memory, found.available) == (8000 * 1024, 4000 * 1024)


def test_a_container_limit_counts(monkeypatch):
    files = {
        "/proc/meminfo": "MemTotal:  8000 kB\nMemAvailable:  4000 kB\n",
        "/sys/fs/cgroup/memory.max": "1000000\n",
        "/sys/fs/cgroup/memory.current": "400000\n",
    }
    assert _machine(monkeypatch, files, "x86_64").available == 600_000
    files["/sys/fs/cgroup/memory.max"] = "max\n"
    assert _machine(monkeypatch, files, "x86_64").available == 4000 * 1024


def test_a_machine_that_tells_nothing(monkeypatch):
    found = _machine(monkeypatch, {}, "arm64")
    assert found.architecture == "aarch64"
    assert found.features is None
    assert found.memory is None
    assert found.available is None


def test_peak_memory():
    assert 10_000_000 < machine.peak_memory() < 100_000_000_000


def test_estimate(miniature):
    bundle = open_bundle(miniature)
    assert estimate_peak(bundle, "fp32") == pytest.approx(130e6, rel=0.05)
