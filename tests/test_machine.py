from __future__ import annotations

import sys
from dataclasses import replace

import pytest

import sao_onnx
from sao_onnx.bundle.bundle import open_bundle
from sao_onnx.errors import NotEnoughMemoryError
from sao_onnx.runtime import machine
from sao_onnx.runtime.memory import estimate_peak, require_memory
from tests.processes import succeed

PI = """processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x4
CPU part\t: 0xd0b
CPU revision\t: 1

Model\t\t: Raspberry Pi 5 Model B Rev 1.0
"""


def _machine(monkeypatch, files, architecture):
    monkeypatch.setattr(machine, "_read", lambda path: files.get(path, ""))
    monkeypatch.setattr("platform.machine", lambda: architecture)
    return machine.describe_machine()


def test_a_raspberry_pi(monkeypatch):
    found = _machine(
        monkeypatch, {"/proc/cpuinfo": PI, "/proc/meminfo": "MemTotal:  8000 kB\nMemAvailable:  4000 kB\n"}, "aarch64"
    )
    assert found.processor == "Raspberry Pi 5 Model B Rev 1.0, Cortex-A76"
    assert machine.int8_products(found, False) == "dot products (asimddp)"
    assert found.features == ("asimd", "asimddp", "fphp")
    assert (found.memory, found.available) == (8000 * 1024, 4000 * 1024)


def test_a_processor_of_two_kinds_of_cores(monkeypatch):
    core = "CPU implementer\t: 0x41\nCPU part\t: {}\n\n"
    found = _machine(
        monkeypatch, {"/proc/cpuinfo": core.format("0xd03") * 2 + core.format("0xd09") + core.format("0x123")}, "arm64"
    )
    assert found.processor == "Cortex-A53 and Cortex-A73 and Arm core 0x123 of implementer 0x41"


def test_an_x86_processor(monkeypatch):
    cpuinfo = "model name\t: Some Processor 5\nflags\t: fpu avx2 avx512f avx512_vnni\n"
    found = _machine(monkeypatch, {"/proc/cpuinfo": cpuinfo}, "x86_64")
    assert found.processor == "Some Processor 5"
    assert machine.int8_products(found, False) == "dot products (avx512_vnni)"
    assert machine.int8_products(replace(found, features=()), False) == "widened products"
    # Under an emulator, the kernel tells of the machine that it runs on.
    assert "unsigned weights" in str(machine.int8_products(found, True))


def test_a_container_limit_counts(monkeypatch):
    files = {
        "/proc/self/cgroup": "0::/app\n",
        "/proc/meminfo": "MemTotal:  8000 kB\nMemAvailable:  4000 kB\n",
        "/sys/fs/cgroup/memory.max": "1000000\n",
        "/sys/fs/cgroup/memory.current": "400000\n",
    }
    assert _machine(monkeypatch, files, "x86_64").available == 600_000
    files["/sys/fs/cgroup/memory.stat"] = "anon 100\nactive_file 10000\ninactive_file 20000\n"
    assert _machine(monkeypatch, files, "x86_64").available == 630_000
    files["/sys/fs/cgroup/app/memory.max"] = "500000\n"
    files["/sys/fs/cgroup/app/memory.current"] = "300000\n"
    assert _machine(monkeypatch, files, "x86_64").available == 200_000
    files["/sys/fs/cgroup/memory.max"] = files["/sys/fs/cgroup/app/memory.max"] = "max\n"
    assert _machine(monkeypatch, files, "x86_64").available == 4000 * 1024


def test_a_limit_of_the_older_control_groups_counts(monkeypatch):
    files = {
        "/proc/meminfo": "MemAvailable:  4000 kB\n",
        "/proc/self/cgroup": "9:cpu:/a\n4:hugetlb,memory:/outside\n",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes": "1000000\n",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes": "400000\n",
    }
    assert _machine(monkeypatch, files, "x86_64").available == 600_000


def test_a_limit_of_addresses_counts():
    script = (
        "import resource, sao_onnx.runtime.machine as m; resource.setrlimit(resource.RLIMIT_AS, (900_000_000, 900_000_000));"
        "print(m.describe_machine().available)"
    )
    assert 500_000_000 < int(succeed([sys.executable, "-c", script])) < 900_000_000


def test_a_machine_that_tells_nothing(monkeypatch):
    found = _machine(monkeypatch, {}, "arm64")
    assert found.architecture == "aarch64"
    assert found.features is None
    assert machine.int8_products(found, False) is None
    assert found.memory is None
    assert found.available is None


def test_peak_memory():
    peak = machine.peak_memory()
    assert peak is not None
    assert 10_000_000 < peak < 100_000_000_000


def _with_memory(monkeypatch, available, swap):
    found = replace(machine.describe_machine(), available=available, swap=swap, used=10_000_000)
    monkeypatch.setattr("sao_onnx.runtime.memory.describe_machine", lambda: found)


def test_what_does_not_fit_is_refused(monkeypatch, miniature):
    bundle = open_bundle(miniature)
    _with_memory(monkeypatch, 100_000_000, 10_000_000)
    with pytest.raises(NotEnoughMemoryError, match=r"takes about 13\d MB, and 110 MB can be had; choose --precision int8"):
        require_memory(bundle, "fp32")
    with pytest.raises(MemoryError, match="can be had; close other"):
        require_memory(bundle, "int8")
    _with_memory(monkeypatch, 100_000_000, 100_000_000)
    with pytest.warns(sao_onnx.SaoOnnxWarning, match="slow"):
        require_memory(bundle, "fp32")
    _with_memory(monkeypatch, 200_000_000, 0)
    require_memory(bundle, "fp32")
    _with_memory(monkeypatch, None, 0)
    require_memory(bundle, "fp32")


def test_estimate(miniature):
    bundle = open_bundle(miniature)
    assert estimate_peak(bundle, "fp32") == pytest.approx(130e6, rel=0.05)
    assert estimate_peak(bundle, "fp32", keep_loaded=True) > estimate_peak(bundle, "fp32")


def test_unsigned_weights_take_more(miniature, monkeypatch):
    bundle, found = open_bundle(miniature), {}
    for overflow in (False, True):
        monkeypatch.setattr("sao_onnx.runtime.memory.products_overflow", lambda overflow=overflow: overflow)
        found[overflow] = [estimate_peak(bundle, precision) for precision in ("int8", "fp32")]
    assert found[True][0] > found[False][0]
    assert found[True][1] == found[False][1]
