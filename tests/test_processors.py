"""Programs see a processor with fewer instructions, whether or not `cpuid` can be made to trap."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bench import cpuid, processors
from tests import processes
from tests.conftest import ROOT

BITS = {"avx2": (1, 5), "avx512f": (1, 16), "ifma": (1, 21), "vbmi": (2, 1), "vnni": (2, 11), "amx": (3, 24), "fp16": (3, 23)}
"""Register and bit in leaf 7 of `cpuid`."""

PROBE = """
#include <cpuid.h>
static unsigned first[4];
__attribute__((constructor)) static void load(void) { __cpuid_count(7, 0, first[0], first[1], first[2], first[3]); }
unsigned at_load(int i) { return first[i]; }
unsigned now(int i) { unsigned r[4]; __cpuid_count(7, 0, r[0], r[1], r[2], r[3]); return r[i]; }
void fault(void) { *(volatile int *)8 = 1; }
"""

ASK = """
import ctypes, faulthandler, sys
faulthandler.enable()
probe = ctypes.CDLL(sys.argv[1])
print(*(probe.at_load(i) & 0xffffffff for i in range(4)))
print(*(probe.now(i) & 0xffffffff for i in range(4)))
"""

ASSEMBLY = """
.globl asks, asks_again, after_data
.section .rodata
.byte 0x0f, 0xa2
.text
plain:
.cfi_startproc
    movl $0x00a20f, %eax
    ret
.cfi_endproc
asks_first:
.cfi_startproc
    pushq %rbx
asks:
    cpuid
    leaq 0xa20f(%rax), %rax
asks_again:
    cpuid
    popq %rbx
    ret
.cfi_endproc
no_table_knows:
    addl $0x0fa20fa2, %ecx
after_data:
    cpuid
    ret
.section .note.GNU-stack
"""


def _compiled(source: str, path: Path, *options: str) -> Path:
    if shutil.which("cc") is None or sys.platform != "linux" or platform.machine() != "x86_64":
        pytest.skip("there is no C compiler on Linux on x86-64")
    subprocess.run(["cc", *options, "-shared", "-fPIC", "-o", path, "-"], input=source, text=True, check=True)
    return path


def _objdump() -> str:
    return shutil.which("objdump") or pytest.skip("there is no objdump (binutils)")


def test_instructions_are_found(tmp_path):
    """Not the same bytes in data or in other instructions."""
    path = _compiled(ASSEMBLY, tmp_path / "library.so", "-x", "assembler")
    symbols = subprocess.run(["nm", path], capture_output=True, text=True, check=True).stdout.splitlines()
    addresses = {name: int(address, 16) for address, _, name in (line.split() for line in symbols if len(line.split()) == 3)}
    assert path.read_bytes().count(cpuid.CPUID) == 7
    assert cpuid.places(path, _objdump()) == sorted(addresses[name] for name in ("asks", "asks_again", "after_data"))


def test_a_file_that_is_no_program_has_none(tmp_path):
    for content in (b"", b"\x7fELF", cpuid.CPUID * 100):
        (tmp_path / "file").write_bytes(content)
        assert cpuid.places(tmp_path / "file", "objdump") == []


def test_the_same_as_in_the_whole_disassembly():
    core = next(Path(np.__file__).parent.glob("_core/_multiarray_umath*.so"), None)
    if core is None or sys.platform != "linux" or platform.machine() != "x86_64":
        pytest.skip("NumPy's core is no shared object of x86-64")
    command = [_objdump(), "-d", "--no-show-raw-insn", str(core)]
    whole = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    wanted = [int(address, 16) for address in re.findall(r"^ *([0-9a-f]+):\tcpuid *$", whole, re.MULTILINE)]
    assert wanted
    assert cpuid.places(core, _objdump()) == wanted


@pytest.fixture(params=["trapped", "replaced"])
def way(request, monkeypatch) -> Iterator[str]:
    """How `cpuid` is answered."""
    if request.param == "replaced":
        monkeypatch.setattr(processors, "cpuid_traps", lambda: False)
    elif sys.platform != "linux" or not processors.cpuid_traps():
        pytest.skip("this processor cannot make cpuid trap")
    return request.param


def _environment(kind: str, folder: Path) -> dict[str, str]:
    try:
        return os.environ | processors.environment(kind, folder)
    except processors.UnavailableError as error:
        pytest.skip(f"no such processor here: {error}")


def _features(registers: str) -> set[str]:
    values = list(map(int, registers.split()))
    return {name for name, (register, bit) in BITS.items() if values[register] >> bit & 1}


@pytest.mark.parametrize("kind", processors.PROCESSORS)
def test_a_program_sees_fewer_instructions(kind, way, tmp_path):
    """Also in a constructor, and in a process that a process starts."""
    variables = _environment(kind, tmp_path)
    probe = _compiled(PROBE, tmp_path / "probe.so", "-x", "c")
    done = processes.run(["sh", "-c", '"$@"; exit $?', "sh", sys.executable, "-c", ASK, probe], env=variables)
    assert done.returncode == 0, done.stderr
    at_load, now = map(_features, done.stdout.splitlines())
    assert at_load == now == {"avx2"} | ({"avx512f"} if kind == "avx512" else set())


def test_a_program_that_faults_is_ended(way, tmp_path):
    variables = _environment("avx2", tmp_path)
    probe = _compiled(PROBE, tmp_path / "probe.so", "-x", "c")
    done = processes.run([sys.executable, "-c", f"{ASK}probe.fault()", probe], env=variables)
    assert done.returncode < 0
    assert "Segmentation fault" in done.stderr


def test_a_file_that_cannot_be_searched_ends_the_program(tmp_path, monkeypatch):
    """It would see the processor as it is."""
    monkeypatch.setattr(processors, "cpuid_traps", lambda: False)
    variables = _environment("avx2", tmp_path)
    probe = _compiled(PROBE, tmp_path / "probe.so", "-x", "c")
    (tmp_path / "find").write_text("#!/bin/sh\nexit 1\n")
    done = processes.run([sys.executable, "-c", ASK, probe], env=variables)
    assert done.returncode == 3
    assert "cpuid is not found in" in done.stderr


def test_products_overflow_without_dot_products(way, tmp_path):
    ask = "from sao_onnx.runtime.sessions import int8_matmul_overflows as found; print(found())"
    for kind, wanted in (("avx2", "True\n"), ("avx512", "True\n")):
        done = processes.run([sys.executable, "-c", ask], env=_environment(kind, tmp_path), cwd=ROOT)
        assert (done.stdout, done.returncode) == (wanted, 0), done.stderr


def test_pytorch_is_limited_too(way, tmp_path):
    pytest.importorskip("torch")
    ask = "import torch; print(torch.backends.cpu.get_cpu_capability())"
    done = processes.run([sys.executable, "-c", ask], env=_environment("avx2", tmp_path))
    assert done.stdout == "AVX2\n", done.stderr


def test_the_command(tmp_path):
    _environment("avx2", tmp_path)
    command = [sys.executable, "-m", "bench.processors", "avx2", "sh", "-c", 'echo "$SAO_ONNX_PROCESSOR"; exit 7']
    done = processes.run(command, cwd=ROOT)
    assert (done.stdout, done.returncode) == ("avx2\n", 7), done.stderr
    done = processes.run([sys.executable, "-m", "bench.processors", "8086", "true"], cwd=ROOT)
    assert done.returncode == 1
    assert "Processors: avx2, avx512, avx_vnni" in done.stderr
