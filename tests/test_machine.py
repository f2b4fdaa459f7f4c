"""What is said of processors and of memory, and how much memory a clip is expected to take."""

from __future__ import annotations

import os
import sys
from dataclasses import replace

import pytest

import sao_onnx
from sao_onnx.bundle.bundle import Bundle, open_bundle
from sao_onnx.bundle.encoder_tiles import encoder_tile
from sao_onnx.bundle.names import BUILT_IN, find
from sao_onnx.errors import NotEnoughMemoryError
from sao_onnx.runtime import kernel_files, machine
from sao_onnx.runtime.memory import ENCODER_ACTIVATIONS, FURTHER_JOB, PROCESS, Way, estimate_peak, require_memory
from sao_onnx.runtime.process_memory import peak_memory, resident_memory
from sao_onnx.runtime.processor import available_processors, usable_threads
from sao_onnx.runtime.sessions import SessionFactory, int8_matmul_overflows
from sao_onnx.runtime.tuning import default_tuning, save_tuning
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
    monkeypatch.setattr(kernel_files, "read", lambda path: files.get(path, ""))
    monkeypatch.setattr("platform.machine", lambda: architecture)
    return machine.describe_machine()


def test_a_raspberry_pi(monkeypatch):
    found = _machine(
        monkeypatch, {"/proc/cpuinfo": PI, "/proc/meminfo": "MemTotal:  8000 kB\nMemAvailable:  4000 kB\n"}, "aarch64"
    )
    assert found.processor == "Raspberry Pi 5 Model B Rev 1.0, Cortex-A76"
    assert machine.int8_matmul_instructions(found, False) == "dot product instructions (asimddp)"
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
    assert machine.int8_matmul_instructions(found, False) == "dot product instructions (avx512_vnni)"
    assert machine.int8_matmul_instructions(replace(found, features=()), False) == "16-bit multiplication"
    # Under an emulator, the kernel tells of the machine that it runs on.
    assert "unsigned weights" in str(machine.int8_matmul_instructions(found, True))


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
    pytest.importorskip("resource")
    script = (
        "import resource, sao_onnx.runtime.machine as m; resource.setrlimit(resource.RLIMIT_AS, (900_000_000, 900_000_000));"
        "print(m.describe_machine().available)"
    )
    assert 500_000_000 < int(succeed([sys.executable, "-c", script])) < 900_000_000


def test_a_machine_that_tells_nothing(monkeypatch):
    found = _machine(monkeypatch, {}, "arm64")
    assert found.architecture == "aarch64"
    assert found.features is None
    assert machine.int8_matmul_instructions(found, False) is None
    assert found.memory is None
    assert found.available is None


def test_memory_of_the_process():
    peak = peak_memory()
    assert peak is not None
    assert 10_000_000 < peak < 100_000_000_000
    if sys.platform == "linux":
        assert 10_000_000 < resident_memory() < 100_000_000_000


def test_processors_are_counted_in_one_way(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 3, 5}, raising=False)
    assert available_processors() == machine.describe_machine().cores == SessionFactory().threads == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert available_processors() == machine.describe_machine().cores == SessionFactory().threads == 7
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available_processors() == 1


CPU = "/sys/fs/cgroup"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"/proc/self/cgroup": "0::/app\n"}, 8),
        # In a container, where the path is the one outside of it.
        ({"/proc/self/cgroup": "0::/system/docker-1\n", f"{CPU}/cpu.max": "250000 100000\n"}, 3),
        ({"/proc/self/cgroup": "0::/\n", f"{CPU}/cpu.max": "10000 100000\n"}, 1),
        ({"/proc/self/cgroup": "0::/a\n", f"{CPU}/a/cpu.max": "max 100000\n"}, 8),
        ({"/proc/self/cgroup": "0::/a\n", f"{CPU}/a/cpu.max": "3200000 100000\n"}, 8),
        # The narrowest of the groups around each other.
        ({"/proc/self/cgroup": "0::/a/b\n", f"{CPU}/a/b/cpu.max": "max 100000\n", f"{CPU}/a/cpu.max": "200000 100000\n"}, 2),
        (
            {
                "/proc/self/cgroup": "0::/a/b\n",
                f"{CPU}/a/b/cpu.max": "150000 100000\n",
                f"{CPU}/a/cpu.max": "400000 100000\n",
            },
            2,
        ),
        (
            {
                "/proc/self/cgroup": "5:memory:/b\n4:cpu,cpuacct:/a\n0::/\n",
                f"{CPU}/cpu/a/cpu.cfs_quota_us": "400000\n",
                f"{CPU}/cpu/a/cpu.cfs_period_us": "100000\n",
            },
            4,
        ),
        (
            {
                "/proc/self/cgroup": "4:cpuacct,cpu:/outside\n",
                f"{CPU}/cpu/cpu.cfs_quota_us": "20000\n",
                f"{CPU}/cpu/cpu.cfs_period_us": "50000\n",
            },
            1,
        ),
        (
            {
                "/proc/self/cgroup": "4:cpu:/\n",
                f"{CPU}/cpu/cpu.cfs_quota_us": "-1\n",
                f"{CPU}/cpu/cpu.cfs_period_us": "100000\n",
            },
            8,
        ),
        # A set of processors is no quota, and what cannot be read is none.
        ({"/proc/self/cgroup": "4:cpuset:/\n", f"{CPU}/cpu/cpu.cfs_quota_us": "1\n"}, 8),
        ({"/proc/self/cgroup": "0::/\n", f"{CPU}/cpu.max": "100000\n"}, 8),
        ({"/proc/self/cgroup": "0::/\n", f"{CPU}/cpu.max": "100000 0\n"}, 8),
    ],
)
def test_a_share_of_the_processors_counts(monkeypatch, files, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    assert _machine(monkeypatch, files, "x86_64").cores == available_processors() == SessionFactory().threads == expected


def test_no_more_threads_than_processors(monkeypatch, miniature, tmp_path):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 3}, raising=False)
    monkeypatch.setattr("sao_onnx.runtime.tuning.tuning_path", lambda bundle: tmp_path / "tuning.json")
    bundle = open_bundle(miniature)
    assert usable_threads(2) == 2
    with pytest.warns(sao_onnx.SaoOnnxWarning, match=r"64 threads are more than the processors that there are; using 2"):
        engine = sao_onnx.load(miniature, precision="fp32", threads=64)
    assert (engine.threads, engine.tuning.threads, engine.tuning.workers) == (2, 2, 2)
    # A tuning from another machine, or that was kept while there were more.
    tuning = replace(default_tuning(bundle, "fp32", 2), threads=1, workers=1000)
    with pytest.warns(sao_onnx.SaoOnnxWarning, match="1000 threads") as warned:
        engine = sao_onnx.load(miniature, tuned=tuning)
    assert len(warned) == 1
    assert (engine.threads, engine.tuning.workers) == (1, 2)
    save_tuning(bundle, replace(tuning, threads=64))
    with pytest.warns(sao_onnx.SaoOnnxWarning, match="1000 threads") as warned:
        engine = sao_onnx.load(miniature)
    assert len(warned) == 1
    assert (engine.threads, engine.tuning.workers) == (2, 2)
    with pytest.raises(sao_onnx.SaoOnnxError, match="threads is 0, expected at least 1"):
        sao_onnx.load(miniature, threads=0)


def _with_memory(monkeypatch, available, swap):
    found = replace(machine.describe_machine(), available=available, swap=swap, used=10_000_000)
    monkeypatch.setattr("sao_onnx.runtime.memory.describe_machine", lambda: found)


def test_what_does_not_fit_is_refused(monkeypatch, miniature):
    bundle = open_bundle(miniature)
    _with_memory(monkeypatch, 80_000_000, 5_000_000)
    refusal = r"a clip takes about \d+ MB with miniature in fp32, and 90 MB can be had; choose --precision int8"
    with pytest.raises(NotEnoughMemoryError, match=refusal):
        require_memory(bundle, "fp32")
    with pytest.raises(MemoryError, match="can be had; close other"):
        require_memory(bundle, "int8")
    _with_memory(monkeypatch, 80_000_000, 100_000_000)
    with pytest.warns(sao_onnx.SaoOnnxWarning, match="slow"):
        require_memory(bundle, "fp32")
    _with_memory(monkeypatch, 200_000_000, 0)
    require_memory(bundle, "fp32")
    _with_memory(monkeypatch, None, 0)
    require_memory(bundle, "fp32")


def test_estimate(miniature):
    bundle = open_bundle(miniature)
    assert estimate_peak(bundle, "fp32") == pytest.approx(100e6, rel=0.05)
    assert estimate_peak(bundle, "fp32", keep_loaded=True) > estimate_peak(bundle, "fp32")


PEAK = """
import re, sys, pathlib, numpy, sao_onnx
keep, jobs, initial = (int(a) for a in sys.argv[1:])
engine = sao_onnx.load("sao-tiny", threads=1, tuned=False, keep_loaded=bool(keep))
options = {"init_audio": (numpy.zeros(44100, numpy.float32), 44100)} if initial else {}
for clip in engine.generate_many(["rain"] * jobs, jobs=jobs, steps=2, full_window=True, **options):
    pass
print(re.search(r"VmHWM:\\s*(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak of a program apart from that of its parent")
@pytest.mark.parametrize(
    "way", [{}, {"encoder": True}, {"keep_loaded": True, "jobs": 1}, {"keep_loaded": True, "jobs": 3}], ids=str
)
def test_what_a_clip_takes_is_near_what_was_expected(way: Way):
    """On sao-tiny, where nearly all are activations. Other C libraries and processors take other amounts, within limits."""
    if int8_matmul_overflows():
        pytest.skip("unsigned weights are expected at their most")
    arguments = [int(way.get("keep_loaded", False)), way.get("jobs", 1), int(way.get("encoder", False))]
    peak = int(succeed([sys.executable, "-c", PEAK, *map(str, arguments)])) * 1024
    assert estimate_peak(open_bundle(find(BUILT_IN)), "int8", **way) == pytest.approx(peak, rel=0.3)


def test_clips_at_the_same_time_have_activations_of_their_own(miniature):
    bundle = open_bundle(miniature)
    for initial in (False, True):
        one, two, five = (estimate_peak(bundle, "fp32", keep_loaded=True, jobs=jobs, encoder=initial) for jobs in (1, 2, 5))
        assert two > one
        assert five - two == pytest.approx(3 * (two - one), abs=2)
    # All stages of several clips may be in use at the same time.
    assert estimate_peak(bundle, "fp32", jobs=2) == estimate_peak(bundle, "fp32", jobs=2, keep_loaded=True)


def test_too_many_clips_at_a_time_are_refused(miniature, monkeypatch):
    bundle = open_bundle(miniature)
    _with_memory(monkeypatch, 110_000_000, 0)
    require_memory(bundle, "int8", keep_loaded=True)
    with pytest.raises(NotEnoughMemoryError, match=r"64 clips at a time take about \d+ MB .*; make one clip at a time, close"):
        require_memory(bundle, "int8", keep_loaded=True, jobs=64)


def _with_weights(monkeypatch, **weights):
    """Stages of these weights in bytes; or of one weight for each precision, int8 first."""
    monkeypatch.setattr("sao_onnx.runtime.memory.int8_matmul_overflows", lambda: False)

    def weight(self, stage, precision):
        found = weights[stage]
        return found[precision == "fp32"] if isinstance(found, tuple) else found

    monkeypatch.setattr("sao_onnx.bundle.bundle.Bundle.stage_weight", weight)
    monkeypatch.setattr("sao_onnx.runtime.memory.DENOISER_ACTIVATIONS", 0)
    monkeypatch.setattr("sao_onnx.runtime.memory.DECODER_ACTIVATIONS", (0, 0))


def test_a_preview_loads_the_decoder_beside_the_denoiser(miniature, monkeypatch):
    _with_weights(monkeypatch, conditioner=100, denoiser=300, decoder=200, encoder=7)
    bundle = open_bundle(miniature)
    for precision in ("int8", "fp32"):
        assert estimate_peak(bundle, precision) == PROCESS + 300
        assert estimate_peak(bundle, precision, preview=True) == PROCESS + 300 + 200
        # Where all stages stay loaded, the decoder is there anyway.
        for preview in (False, True):
            assert estimate_peak(bundle, precision, keep_loaded=True, preview=preview) == PROCESS + 600


def test_a_tuning_may_use_other_precisions(miniature, monkeypatch):
    bundle, million = open_bundle(miniature), 1_000_000
    _with_weights(monkeypatch, conditioner=1, denoiser=(300 * million, 900 * million), decoder=(200 * million, 500 * million))
    tuning = default_tuning(bundle, "int8", 1)
    assert estimate_peak(bundle, "int8", tuning=tuning) == estimate_peak(bundle, "int8") == PROCESS + 300 * million
    assert estimate_peak(bundle, "int8", tuning=replace(tuning, decoder="fp32")) == PROCESS + 500 * million
    mixed = replace(tuning, dit="fp32")
    assert estimate_peak(bundle, "int8", tuning=mixed) == PROCESS + 900 * million
    assert estimate_peak(bundle, "int8", tuning=mixed, preview=True) == PROCESS + 1100 * million
    _with_memory(monkeypatch, PROCESS + 400 * million, 0)
    require_memory(bundle, "int8")
    with pytest.raises(NotEnoughMemoryError, match="choose --precision int8, close"):
        require_memory(bundle, "int8", tuning=mixed)


def test_initial_audio_needs_the_encoder(miniature, monkeypatch):
    bundle = open_bundle(miniature)
    _with_weights(monkeypatch, conditioner=100, denoiser=300, decoder=200, encoder=1_000_000_000)
    latents = bundle.manifest.latents
    length, _ = encoder_tile(latents, bundle.manifest.window_latents)
    assert length < bundle.manifest.window_latents / 5
    at_once = {"int8": 1_000_000_000 * ENCODER_ACTIVATIONS, "fp32": 250_000_000 * ENCODER_ACTIVATIONS}
    older = Bundle(bundle.folder, replace(bundle.manifest, latents=replace(latents, margin=None)))
    for precision in ("int8", "fp32"):
        encoder = 1_000_000_000 + at_once[precision] * length * latents.ratio
        whole = 1_000_000_000 + at_once[precision] * bundle.manifest.audio.window
        assert estimate_peak(bundle, precision) == PROCESS + 300
        assert estimate_peak(bundle, precision, encoder=True) == pytest.approx(PROCESS + encoder)
        assert estimate_peak(older, precision, encoder=True) == pytest.approx(PROCESS + whole)
        assert estimate_peak(bundle, precision, encoder=True, keep_loaded=True) == pytest.approx(PROCESS + 600 + encoder)
        further = FURTHER_JOB * (encoder - 1_000_000_000)
        several = estimate_peak(bundle, precision, encoder=True, keep_loaded=True, jobs=2)
        assert several == pytest.approx(PROCESS + 600 + encoder + further)
    # A light encoder is not what decides.
    _with_weights(monkeypatch, conditioner=100, denoiser=300_000_000, decoder=200, encoder=0)
    assert estimate_peak(bundle, "fp32", encoder=True) == PROCESS + 300_000_000


def test_what_is_refused_counts_the_encoder_and_the_preview(miniature, monkeypatch):
    bundle = open_bundle(miniature)
    megabyte = 1_000_000
    _with_weights(
        monkeypatch, conditioner=10 * megabyte, denoiser=300 * megabyte, decoder=200 * megabyte, encoder=400 * megabyte
    )
    _with_memory(monkeypatch, PROCESS + 350 * megabyte, 0)
    require_memory(bundle, "fp32")
    with pytest.raises(NotEnoughMemoryError, match="leave the preview out, close other programs"):
        require_memory(bundle, "fp32", preview=True)
    with pytest.raises(
        NotEnoughMemoryError, match=r"takes about \d+ MB with miniature in int8.*can be had; choose --precision fp32"
    ):
        require_memory(bundle, "int8", encoder=True)
    with pytest.raises(NotEnoughMemoryError, match="takes about 605 MB"):
        require_memory(bundle, "fp32", keep_loaded=True)


def test_unsigned_weights_take_more(miniature, monkeypatch):
    bundle, found = open_bundle(miniature), {}
    for overflow in (False, True):
        monkeypatch.setattr("sao_onnx.runtime.memory.int8_matmul_overflows", lambda overflow=overflow: overflow)
        found[overflow] = [estimate_peak(bundle, precision) for precision in ("int8", "fp32")]
    assert found[True][0] > found[False][0]
    assert found[True][1] == found[False][1]
