"""Windows and macOS, as far as they can be tried without them: see `tests.elsewhere`."""

from __future__ import annotations

import ctypes
import json
import os
import sys
import tomllib
import types

import pytest
import soundfile

import sao_onnx
from sao_onnx.errors import SaoOnnxWarning
from sao_onnx.runtime import elsewhere, kernel_files, process_memory, processor, system_memory
from sao_onnx.runtime.machine import describe_machine, int8_matmul_instructions
from sao_onnx.runtime.sessions import confines_graphs
from tests.conftest import ROOT
from tests.processes import run

pytest.importorskip("psutil")

linux = pytest.mark.skipif(sys.platform != "linux", reason="it is compared with what Linux says")


@pytest.fixture
def there(tmp_path):
    """Runs the command as on another system."""

    def call(system, *words):
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "engine"), str(ROOT / "convert")]),
            "XDG_DATA_HOME": str(tmp_path / "data"),
            "XDG_STATE_HOME": str(tmp_path / "state"),
        }
        return run([sys.executable, "-m", "tests.elsewhere", system, *words], cwd=tmp_path, env=environment)

    return call


@linux
@pytest.mark.parametrize("system", ["win32", "darwin"])
def test_the_first_clip(there, tmp_path, system):
    """All modules are imported, sao-tiny makes a clip, it is written and replaced, and made again from its tags."""
    words = ["gen", "kick drum", "--seconds", "0.5", "--seed", "1", "-o", "a.flac", "--json"]
    assert there(system, *words).returncode == 0
    first = (tmp_path / "a.flac").read_bytes()
    done = there(system, "gen", "--from", "a.flac", "-o", "a.flac", "--force")
    assert (done.returncode, done.stdout) == (2, "")
    assert "is what the clip is made from" in done.stderr
    done = there(system, *words, "--force")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.flac").read_bytes() == first
    assert soundfile.info(tmp_path / "a.flac").frames == 22050
    assert not list(tmp_path.glob(".sao-onnx-*"))


@linux
def test_other_commands(there, tmp_path, miniature):
    system = "win32"
    (tmp_path / "list.txt").write_text("rain\nwind\n")
    for words in (
        ("batch", "list.txt", "-m", miniature, "--jobs", "2", "-o", "clips"),
        ("models", "add", miniature, "--name", "mini"),
        ("models", "default", "mini"),
        ("models", "remove", "mini"),
    ):
        done = there(system, *words)
        assert done.returncode == 0, (words, done.stderr)
    assert len(list((tmp_path / "clips").iterdir())) == 2
    about = json.loads(there(system, "doctor", "--json").stdout)
    assert about["memory"] > about["available"] > 0
    assert about["used"] > 10_000_000


@linux
def test_figures_are_those_of_the_kernel(monkeypatch):
    """Both are read at nearly the same time, and the machine goes on working."""
    figures = {
        "total": system_memory.total_memory,
        "available": system_memory.available_memory,
        "resident": process_memory.resident_memory,
        "swap": system_memory.free_swap,
    }
    ours = {name: figure() for name, figure in figures.items()}
    monkeypatch.setattr(kernel_files, "read", lambda path: "")
    assert {name: figure() for name, figure in figures.items()} == {"total": None, "available": None, "resident": 0, "swap": 0}
    monkeypatch.setattr(elsewhere, "NEEDED", True)
    theirs = {name: figure() for name, figure in figures.items()}
    total = ours["total"] or 0
    assert theirs["total"] == total > 0
    assert theirs["resident"] == pytest.approx(ours["resident"], rel=0.2)
    assert theirs["swap"] == pytest.approx(ours["swap"], abs=0.1 * total)
    # Control groups may leave less than the kernel's estimate, and psutil does not know them.
    assert (theirs["available"] or 0) >= (ours["available"] or 0) - 0.1 * total


def test_where_psutil_is_missing_or_fails(monkeypatch):
    monkeypatch.setattr(elsewhere, "NEEDED", True)
    monkeypatch.setattr(kernel_files, "read", lambda path: "")
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert system_memory.total_memory() is None
    assert system_memory.free_swap() == 0
    assert describe_machine().reachable is None
    monkeypatch.undo()
    monkeypatch.setattr(elsewhere, "NEEDED", True)

    def refused():
        raise PermissionError("not for you")

    monkeypatch.setattr("psutil.virtual_memory", refused)
    assert elsewhere.total_memory() is None


def test_peak_memory_of_windows(monkeypatch):
    monkeypatch.setattr("sao_onnx.runtime.usage.largest_resident", lambda: None)
    assert process_memory.peak_memory() is None
    monkeypatch.setattr(elsewhere, "NEEDED", True)

    class Process:
        def memory_info(self):
            return type("Info", (), {"rss": 5, "peak_wset": 7})

    monkeypatch.setattr("psutil.Process", Process)
    assert process_memory.peak_memory() == 7


def test_an_arm_processor_elsewhere(monkeypatch):
    monkeypatch.setattr(kernel_files, "read", lambda path: "")
    monkeypatch.setattr("platform.machine", lambda: "ARM64")
    monkeypatch.setattr(elsewhere, "arm_features", lambda: frozenset({"asimd", "asimddp", "i8mm"}))
    monkeypatch.setattr(elsewhere, "processor_name", lambda: "Apple M2")
    found = describe_machine()
    assert (found.processor, found.architecture) == ("Apple M2", "aarch64")
    assert found.features == ("asimd", "asimddp", "i8mm")
    assert int8_matmul_instructions(found, False) == "matrix multiplication instructions (i8mm)"
    monkeypatch.setattr(elsewhere, "arm_features", lambda: None)
    assert processor.processor_features() is None
    # Its bits of x86 are not told anywhere else, and not guessed.
    monkeypatch.setattr("platform.machine", lambda: "AMD64")
    assert processor.processor_features() is None


def test_names_of_features_are_those_of_the_kernel():
    known = set(processor.FEATURES["aarch64"])
    assert elsewhere.APPLE.keys() <= known
    assert elsewhere.WINDOWS.keys() <= known


def test_nothing_of_one_system_is_imported_in_passing():
    """Locks, limits and terminals are each behind one module."""
    places = {
        "fcntl": {"locks.py"},
        "msvcrt": {"locks.py"},
        "resource": {"runtime/usage.py"},
        "winreg": {"runtime/elsewhere.py"},
        "psutil": {"runtime/elsewhere.py"},
        "pwd": set(),
        "grp": set(),
        "pty": set(),
        "termios": set(),
    }
    for folder in (ROOT / "engine" / "sao_onnx", ROOT / "convert"):
        for path in folder.rglob("*.py"):
            lines = {line.strip() for line in path.read_text(encoding="utf-8").splitlines()}
            place = path.relative_to(folder).as_posix()
            for name, allowed in places.items():
                assert f"import {name}" not in lines or (folder.name == "sao_onnx" and place in allowed), path


def test_an_older_runtime_is_told(monkeypatch, miniature, recwarn):
    """On Macs with Intel's processors there is no newer one; the package's own bundle needs no warning."""
    assert [confines_graphs(version) for version in ("1.23.2", "1.24.1", "1.24.2", "1.30.0.dev1", "2.0")] == [False] * 2 + [
        True
    ] * 3
    monkeypatch.setattr("sao_onnx.engine.confines_graphs", lambda: False)
    sao_onnx.load()
    assert not [warning for warning in recwarn if "lets a bundle read" in str(warning.message)]
    with pytest.warns(SaoOnnxWarning, match=r"lets a bundle read your files .* or use 1\.24\.2 or later"):
        sao_onnx.load(miniature)


@pytest.mark.parametrize(
    ("system", "machine", "wanted"),
    [
        ("linux", "aarch64", {"onnxruntime>=1.24.2", "soxr"}),
        ("win32", "ARM64", {"onnxruntime>=1.24.2", "psutil"}),
        ("win32", "AMD64", {"onnxruntime>=1.24.2", "psutil", "soxr"}),
        ("darwin", "arm64", {"onnxruntime>=1.24.2", "psutil", "soxr"}),
        ("darwin", "x86_64", {"onnxruntime>=1.23.2", "psutil", "soxr"}),
        ("linux", "armv7l", {"soxr"}),
    ],
)
def test_what_each_system_is_given(system, machine, wanted):
    requirements = pytest.importorskip("packaging.requirements")
    found = set()
    for text in tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]:
        requirement = requirements.Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"sys_platform": system, "platform_machine": machine}):
            found.add(f"{requirement.name}{requirement.specifier}" if requirement.name == "onnxruntime" else requirement.name)
    assert found & {"onnxruntime>=1.24.2", "onnxruntime>=1.23.2", "psutil", "soxr"} == wanted


@linux
def test_every_test_is_collected_without_posix():
    """On Windows a module that asks for what is not there would hide all of its tests. Half a minute, for all modules."""
    plugins = [part for name in ("tests.without_posix", "tests.without_extras") for part in ("-p", name)]
    # What pytest itself does for consoles of Windows is left out.
    others = ["-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:faulthandler", "--capture=no"]
    done = run([sys.executable, "-m", "pytest", *plugins, *others, "--collect-only", "-q", ROOT / "tests"], cwd=ROOT)
    assert done.returncode == 0, done.stdout[-5000:]
    for module in ("test_cli", "test_engine", "test_signals", "test_outputs"):
        assert f"tests/{module}.py" in done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="it asks otherwise")
def test_what_the_kernel_of_macos_is_asked(monkeypatch):
    """By `sysctlbyname`, with a buffer and its size, as its manual has it."""
    known = {
        b"machdep.cpu.brand_string": b"Apple M2\0",
        b"hw.optional.AdvSIMD": bytes([1, 0, 0, 0]),
        b"hw.optional.arm.FEAT_DotProd": bytes([1, 0, 0, 0]),
        b"hw.optional.arm.FEAT_SME": bytes(4),
    }

    def sysctlbyname(name, value, size, new, length):
        assert (new, length.value) == (None, 0)
        if name not in known:
            return -1
        assert size._obj.value >= len(known[name])
        ctypes.memmove(value, known[name], len(known[name]))
        size._obj.value = len(known[name])
        return 0

    monkeypatch.setattr(elsewhere, "NEEDED", True)
    monkeypatch.setattr(elsewhere, "_is_apple", lambda: True)
    monkeypatch.setattr(ctypes, "CDLL", lambda _: types.SimpleNamespace(sysctlbyname=sysctlbyname))
    assert elsewhere.processor_name() == "Apple M2"
    assert elsewhere.arm_features() == frozenset({"asimd", "asimddp"})
    monkeypatch.setattr(ctypes, "CDLL", lambda _: types.SimpleNamespace())
    assert (elsewhere.processor_name(), elsewhere.arm_features()) == ("", frozenset())
