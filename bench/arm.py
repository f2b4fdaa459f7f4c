"""Arm cores, emulated: instructions of 8-bit forms, a pass of every submodel at full size, and how much is installed.

    python -m bench.arm forms
    python -m bench.arm passes [--folder scratch/bench]
    python -m bench.arm sizes

Writes `arm-forms.md`, `arm-passes.md` or `arm-sizes.md`. An emulator's times are no board's: only ratios within a column say
something, of how many instructions there are. Which of them a form runs is read from the emulator's log of what it translated.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bench.common import ROOT, decibels, output_of, parser
from tests.arm.sandbox import SUITES, build

SUITE = "trixie"
CORES = ("cortex-a72", "cortex-a76", "neoverse-n2", "max")
PROGRAM = Path(__file__).with_name("arm_program.py")
MULTIPLICATIONS = (
    "fmla",
    "smlal",
    "smlal2",
    "umlal",
    "umlal2",
    "sdot",
    "udot",
    "usdot",
    "smmla",
    "ummla",
    "usmmla",
    "fmopa",
    "smopa",
)
UNROLLED = 8
ROWS, INPUTS, OUTPUTS = 128, 512, 512
CHANNELS, FRAMES, KERNEL = 128, 512, 7


def machine() -> Path:
    """The emulated machine with this project's wheel and the newest of what it needs."""
    wheels = ROOT / "scratch" / "wheels"
    output_of([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(wheels), str(ROOT)])
    wheel = max(wheels.glob("*.whl"), key=lambda path: path.stat().st_mtime)
    return build(ROOT / "scratch" / "arm", SUITES[SUITE], [str(wheel)])


def main() -> None:
    """Measure and report."""
    common = parser(__doc__)
    common.add_argument("what", choices=("forms", "passes", "sizes"))
    arguments = common.parse_args()
    python = machine()
    reports = {"forms": lambda: forms(python), "passes": lambda: passes(python, arguments), "sizes": lambda: sizes(python)}
    report = reports[arguments.what]()
    text = "\n".join(report) + "\n"
    arguments.results.mkdir(parents=True, exist_ok=True)
    (arguments.results / f"arm-{arguments.what}.md").write_text(text, encoding="utf-8")
    print(text)


def _on(core: str, command: Sequence[str | Path], **variables: str) -> str:
    done = subprocess.run(
        command, env=os.environ | {"QEMU_CPU": core} | variables, capture_output=True, text=True, check=False, cwd=ROOT
    )
    if done.returncode:
        raise SystemExit(f"failed on {core}: {done.stderr[-2000:]}")
    return done.stdout.splitlines()[-1]


def forms(python: Path) -> Iterator[str]:
    """Every form on every core: time relative to single precision's, and the instructions of its inner loop."""
    folder = ROOT / "scratch" / "forms"
    names = {"product": _products(folder), "convolution": _convolutions(folder)}
    times = {core: json.loads(_on(core, [python, PROGRAM, "forms", folder])) for core in CORES}
    yield "# 8-bit forms on Arm cores"
    yield ""
    yield (
        f"Products of {ROWS} × {INPUTS} by {INPUTS} × {OUTPUTS}; convolutions of {CHANNELS} channels, {FRAMES} frames, kernel "
        f"{KERNEL}; ONNX Runtime's newest release, one thread, emulated by QEMU. In each cell the time divided by single "
        "precision's on the same core, which follows the number of instructions and is no measure of a board, and the "
        "multiplications that the form was seen to run. u8s8 is unsigned activations with signed weights."
    )
    yield ""
    yield "| form | " + " | ".join(CORES) + " |"
    yield "|---|" + "---|" * len(CORES)
    for kind in names.values():
        plain = kind[0]
        for name in kind:
            cells = [
                f"{times[core][name] / times[core][plain]:.2f} {_instructions(python, core, folder, name)}" for core in CORES
            ]
            yield f"| {name.replace('_', ' ')} | " + " | ".join(cells) + " |"


def _instructions(python: Path, core: str, folder: Path, name: str) -> str:
    """The multiplications that are translated for a form, the most frequent first. Kernels are unrolled, other code is not."""
    log = ROOT / "scratch" / "translated.log"
    _on(core, [python, PROGRAM, "forms", folder, name], QEMU_LOG="in_asm", QEMU_LOG_FILENAME=str(log))
    with log.open(encoding="utf-8", errors="replace") as file:
        # An address, the instruction's bytes, its name, its operands.
        words = (line.split(maxsplit=3)[2:3] for line in file)
        count = Counter(word for found in words for word in found if word in MULTIPLICATIONS)
    log.unlink()
    return ", ".join(word for word, number in count.most_common(2) if number >= UNROLLED)


def _products(folder: Path) -> list[str]:
    """Graphs of one product each, that in single precision first."""
    rng = np.random.default_rng(0)
    float_x, float_y = ("x", TensorProto.FLOAT, [ROWS, INPUTS]), ("y", TensorProto.FLOAT, [ROWS, OUTPUTS])
    weight = rng.normal(size=(INPUTS, OUTPUTS)).astype(np.float32)
    names = ["MatMul_f32"]
    _write(folder, names[0], helper.make_node("MatMul", ["x", "w"], ["y"]), float_x, float_y, {"w": weight})
    types = {"u8": (TensorProto.UINT8, np.uint8), "s8": (TensorProto.INT8, np.int8)}
    for a, b in (("u8", "s8"), ("u8", "u8"), ("s8", "s8")):
        names.append(f"MatMulInteger_{a}{b}")
        codes = rng.integers(0, 127, weight.shape).astype(types[b][1])
        x, y = ("x", types[a][0], [ROWS, INPUTS]), ("y", TensorProto.INT32, [ROWS, OUTPUTS])
        _write(folder, names[-1], helper.make_node("MatMulInteger", ["x", "w"], ["y"]), x, y, {"w": codes})
    for bits in (8, 4):
        names.append(f"MatMulNBits_{bits}_bits")
        block = 128
        codes = rng.integers(0, 255, (OUTPUTS, INPUTS // block, block * bits // 8)).astype(np.uint8)
        scale = rng.uniform(0.01, 0.02, OUTPUTS * (INPUTS // block)).astype(np.float32)
        sizes: dict[str, Any] = {"K": INPUTS, "N": OUTPUTS, "bits": bits, "block_size": block, "accuracy_level": 4}
        node = helper.make_node("MatMulNBits", ["x", "w", "s"], ["y"], domain="com.microsoft", **sizes)
        _write(folder, names[-1], node, float_x, float_y, {"w": codes, "s": scale})
    return names


def _convolutions(folder: Path) -> list[str]:
    """Graphs of one convolution each, that in single precision first."""
    rng = np.random.default_rng(0)
    shape = [1, CHANNELS, FRAMES]
    padded: dict[str, Any] = {"kernel_shape": [KERNEL], "pads": [KERNEL // 2] * 2}
    weight = rng.normal(size=(CHANNELS, CHANNELS, KERNEL)).astype(np.float32)
    names = ["Conv_f32"]
    x, y = ("x", TensorProto.FLOAT, shape), ("y", TensorProto.FLOAT, shape)
    _write(folder, names[0], helper.make_node("Conv", ["x", "w"], ["y"], **padded), x, y, {"w": weight})
    x, y = ("x", TensorProto.UINT8, shape), ("y", TensorProto.UINT8, shape)
    for b, dtype, zero in (("s8", np.int8, 0), ("u8", np.uint8, 128)):
        names.append(f"QLinearConv_u8{b}")
        constants: dict[str, np.ndarray] = {
            "w": rng.integers(0, 127, weight.shape).astype(dtype),
            "ws": np.full(CHANNELS, 0.01, np.float32),
            "wz": np.full(CHANNELS, zero, dtype),
            "xs": np.array(0.01, np.float32),
            "xz": np.array(128, np.uint8),
            "ys": np.array(10.0, np.float32),
            "yz": np.array(128, np.uint8),
        }
        node = helper.make_node("QLinearConv", ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"], ["y"], **padded)
        _write(folder, names[-1], node, x, y, constants)
    return names


def _write(
    folder: Path,
    name: str,
    node: onnx.NodeProto,
    x: tuple[str, int, list[int]],
    y: tuple[str, int, list[int]],
    constants: dict[str, np.ndarray],
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tensors = [numpy_helper.from_array(array, key) for key, array in constants.items()]
    inputs, outputs = ([helper.make_tensor_value_info(*end)] for end in (x, y))
    graph = helper.make_graph([node], name, inputs, outputs, tensors)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), folder / f"{name}.onnx")


def passes(python: Path, arguments: argparse.Namespace) -> Iterator[str]:
    """One pass of each submodel at full size on this machine and on the cores of a Raspberry Pi 4 and 5."""
    bundle = arguments.folder / "bundle"
    kept = {name: ROOT / "scratch" / f"passes-{name}.npz" for name in ("fp32", "x86", "cortex-a72", "cortex-a76")}
    here: list[str | Path] = [sys.executable, PROGRAM, "passes", bundle]
    _on("none", [*here, "fp32", kept["fp32"]])
    _on("none", [*here, "int8", kept["x86"]])
    times = {
        core: json.loads(_on(core, [python, PROGRAM, "passes", bundle, "int8", kept[core]]))
        for core in ("cortex-a72", "cortex-a76")
    }
    arrays = {name: dict(np.load(path)) for name, path in kept.items()}
    yield "# One pass of each submodel at full size, int8, on emulated Arm cores"
    yield ""
    yield (
        "Signal-to-noise ratio against the pass in single precision on x86, and against the one in int8 there. Both machines "
        "round equally well and not alike: a value that falls on the other side of a step in an early layer is a step away for "
        "all that follow. The emulator's seconds are no board's."
    )
    yield ""
    yield "| | x86, fp32 | cortex-a72: fp32, int8 | seconds | cortex-a76: fp32, int8 | seconds |"
    yield "|---|---|---|---|---|---|"
    for name, exact in arrays["fp32"].items():
        cells = [f"{decibels(exact, arrays['x86'][name]):.1f} dB"]
        for core, seconds in times.items():
            found = arrays[core][name]
            cells += [f"{decibels(exact, found):.1f}, {decibels(arrays['x86'][name], found):.1f} dB", f"{seconds[name]:.0f}"]
        yield f"| {name} | " + " | ".join(cells) + " |"


def sizes(python: Path) -> Iterator[str]:
    """What pip installs, package by package, and whether a clip loads any of it."""
    bundle, clip = ROOT / "models" / "miniature" / "bundle", ROOT / "scratch" / "arm-clip.wav"
    files = {Path(file) for file in json.loads(_on("cortex-a76", [python, PROGRAM, "loaded", bundle, clip]))}
    site = ROOT / "scratch" / "arm" / f"site-{SUITE}"
    rows = []
    for distribution in metadata.distributions(path=[str(site)]):
        held = [Path(str(distribution.locate_file(file))) for file in distribution.files or []]
        size = sum(file.stat().st_size for file in held if file.is_file())
        rows.append((size / 1e6, f"{distribution.name} {distribution.version}", bool(files.intersection(held))))
    rows.sort(reverse=True)
    total, idle = (sum(size for size, _, used in rows if not (used and only_idle)) for only_idle in (False, True))
    yield "# What is installed on aarch64"
    yield ""
    yield (
        f"`pip install` of the engine with Python {SUITES[SUITE].python}: {total:.0f} MB in {len(rows)} packages, of which "
        f"{idle:.0f} MB are never loaded by `sao-onnx gen`."
    )
    yield ""
    yield "| package | MB | loaded |"
    yield "|---|---|---|"
    for megabytes, name, used in rows:
        yield f"| {name} | {megabytes:.1f} | {'yes' if used else 'no'} |"


if __name__ == "__main__":
    main()
