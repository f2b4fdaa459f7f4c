"""Compiles the operators into the wheel.

An ordinary compiler makes the library for the machine at hand (`CXX`, or else c++). With the environment variable
`SAO_ONNX_OPS_PLATFORM` set to the platform of a wheel, such as manylinux_2_28_aarch64, the compiler of the package `ziglang`
makes it for that one.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ZIG_TARGETS = {
    "manylinux_2_28_x86_64": "x86_64-linux-gnu.2.28",
    "manylinux_2_28_aarch64": "aarch64-linux-gnu.2.28",
    "macosx_11_0_x86_64": "x86_64-macos.11.0",
    "macosx_11_0_arm64": "aarch64-macos.11.0",
    "win_amd64": "x86_64-windows-gnu",
    "win_arm64": "aarch64-windows-gnu",
}
"""What zig calls the platforms of wheels."""

FLAGS = (
    "-std=c++17",
    "-O3",
    # A fused multiplication and addition would round once where ONNX Runtime's own nodes round twice.
    "-ffp-contract=off",
    # Nothing of the C++ library is used, so none has to be there.
    "-fno-exceptions",
    "-fno-rtti",
    "-fno-threadsafe-statics",
    "-fvisibility=hidden",
    "-Wall",
    "-Wextra",
    # GCC 12 says so of its own headers: https://gcc.gnu.org/bugzilla/show_bug.cgi?id=105593
    "-Wno-uninitialized",
    "-Wno-maybe-uninitialized",
)
"""How the operators are compiled, everywhere."""


def library_name(wheel_platform: str) -> str:
    """File name of the library on a platform."""
    suffix = {"win": ".dll", "mac": ".dylib"}.get(wheel_platform[:3], ".so")
    return f"sao_onnx_ops{suffix}"


def compile_library(root: Path, target: Path, wheel_platform: str | None = None) -> None:
    """Compile the operators.

    Args:
        root: The folder of this file.
        target: The library to be written.
        wheel_platform: A key of `ZIG_TARGETS`, or None for this machine and its own compiler.

    Raises:
        SystemExit: There is no compiler, or it failed.
    """
    if wheel_platform is None:
        compiler = shlex.split(os.environ.get("CXX", "c++"))
        options = ["-shared", "-nodefaultlibs", "-lc", "-Wl,-z,defs"] if sys.platform == "linux" else ["-shared"]
        position = ["-fPIC"]
    else:
        compiler = [sys.executable, "-m", "ziglang", "c++", "-target", ZIG_TARGETS[wheel_platform]]
        options = ["-shared", "-s"]
        position = [] if wheel_platform.startswith("win") else ["-fPIC"]
    sources = sorted(str(path) for path in (root / "src").glob("*.cc"))
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    command = [*compiler, *FLAGS, *position, *sources, "-o", str(target), *options]
    try:
        done = subprocess.run(command, check=False)
    except FileNotFoundError as error:
        raise SystemExit(
            f"no C++ compiler: {error}; install one (g++ or clang++), or name it in CXX. sao-onnx runs without operators, too"
        ) from error
    if done.returncode or not target.exists():
        raise SystemExit(f"the compiler {shlex.join(compiler)} made no library (exit {done.returncode}): {shlex.join(command)}")


class CompilingHook(BuildHookInterface[Any]):
    """Puts the library into a wheel, and its platform into the wheel's name."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, before files are collected."""
        chosen = os.environ.get("SAO_ONNX_OPS_PLATFORM") or None
        if chosen is not None and chosen not in ZIG_TARGETS:
            raise SystemExit(f"SAO_ONNX_OPS_PLATFORM is {chosen!r}, expected one of {', '.join(ZIG_TARGETS)}")
        name = chosen or sysconfig.get_platform().replace("-", "_").replace(".", "_")
        root = Path(self.root)
        system = {"linux": "", "win32": "win", "darwin": "mac"}.get(sys.platform, "")
        library = root / "build" / name / library_name(name if chosen else system)
        compile_library(root, library, chosen)
        build_data["tag"] = f"py3-none-{name}"
        build_data["pure_python"] = False
        digest = library.with_name("library.sha256")
        digest.write_text(hashlib.sha256(library.read_bytes()).hexdigest(), encoding="ascii")
        for made in (library, digest):
            build_data["force_include"][str(made)] = f"sao_onnx_ops/{made.name}"
