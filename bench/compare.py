"""Compares sao-onnx with other programs that can run the model, with the same weights, threads and request.

    python -m bench.compare                  all contenders, three rounds, and sao-onnx's time by setting
    python -m bench.compare --quick          PyTorch, plain ONNX Runtime and sao-onnx, one round
    python -m bench.compare --quick --model models/miniature --folder FOLDER --results FOLDER

Writes `results-KIND.json`, `results-KIND.md` and diagrams, where KIND is the kind of processor (`bench.kinds`): the results of
each are kept. `results.md` has all of them side by side. Each clip is made by a new process. The contenders take turns, because
the speed of a machine changes over time. A contender with its own dependencies has its own environment, which is made when it
is first used.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench import growth, kinds, pictures
from bench.common import FULL_SIZE, ROOT, STEPS, THREADS, decibels, output_of, parser, prepared, processor
from bench.tables import OURS, PYTORCH, overview, table
from sao_onnx import __version__
from sao_onnx.runtime.machine import describe_machine
from sao_onnx.runtime.native_operators import native_operators


@dataclass(frozen=True)
class Contender:
    """A program that makes a clip.

    Attributes:
        name: Its name in the report.
        program: Its file in `contenders`, without suffix.
        variant: Its precision or mode.
        environment: Name of its environment; None for that of the project.
        quick: Whether `--quick` includes it.
    """

    name: str
    program: str
    variant: str
    environment: str | None = None
    quick: bool = False


EVERYONE = (
    Contender(PYTORCH, "pytorch", "eager", quick=True),
    Contender("PyTorch torch.compile", "pytorch", "compile"),
    Contender("ONNX Runtime, plain export", "onnxruntime_plain", "fp32", quick=True),
    Contender("OpenVINO f32", "openvino_plain", "f32", "openvino"),
    Contender("OpenVINO bf16", "openvino_plain", "bf16", "openvino"),
    Contender("LiteRT, Arm's recipe", "litert", "int8", "litert"),
    Contender("sao-onnx fp32", "ours", "fp32", quick=True),
    Contender(OURS, "ours", "int8", quick=True),
)


def main() -> None:
    """Compare, and write the report."""
    options = parser(__doc__)
    options.add_argument("--quick", action="store_true", help="fewer contenders, one round, and no time by setting")
    options.add_argument("--rounds", type=int, help="clips of each contender")
    arguments = options.parse_args()
    folder = arguments.folder
    prepared(folder, arguments.model)
    contenders = [contender for contender in EVERYONE if contender.quick or not arguments.quick]
    report = compare(folder, contenders, arguments.rounds or (1 if arguments.quick else 3))
    report["command"] = command(arguments)
    if not arguments.quick:
        report["growth"] = growth.measure(folder / "bundle")
    write(report, arguments.results)
    print(table(report))


def command(arguments: argparse.Namespace) -> str:
    """The command of a report, without the folders of this machine."""
    words = ["python -m bench.compare"]
    if kinds.limit():
        words.insert(0, f"python -m bench.processors {kinds.limit()}")
    words += ["--quick"] * arguments.quick
    words += [f"--rounds {arguments.rounds}"] * (arguments.rounds is not None)
    words += [f"--model {arguments.model}"] * (arguments.model != FULL_SIZE)
    return " ".join(words)


def write(report: dict[str, Any], folder: Path) -> None:
    """Write a report, and the overview of all reports of a folder.

    Args:
        report: What `compare` returns, with "command", and with "growth" if it was measured.
        folder: Folder for the files. Those of other kinds of processors stay as they are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = f"results-{report['kind']}"
    (folder / f"{name}.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    (folder / f"{name}.md").write_text(table(report), encoding="utf-8")
    reports = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("results-*.json"))]
    (folder / "results.md").write_text(overview(reports), encoding="utf-8")
    pictures.draw(report, folder)


def compare(folder: Path, contenders: Sequence[Contender], rounds: int) -> dict[str, Any]:
    """Let every contender make its clip in every round.

    Args:
        folder: What `bench.prepare` wrote.
        contenders: Who takes part, in this order.
        rounds: Clips of each contender.

    Returns:
        Everything that was measured.
    """
    interpreters = {contender: _interpreter(contender) for contender in contenders}
    if any(contender.program == "litert" for contender in contenders):
        converter = next(interpreters[contender] for contender in contenders if contender.program == "litert")
        output_of([converter, "-m", "bench.contenders.litert_convert", str(folder)])
    runs: dict[str, list[dict[str, Any]]] = {contender.name: [] for contender in contenders}
    for _ in range(rounds):
        for contender in contenders:
            command = [interpreters[contender], "-m", f"bench.contenders.{contender.program}", str(folder)]
            command += [contender.variant, str(THREADS), str(STEPS)]
            before = _children_seconds()
            measured = json.loads(output_of(command).splitlines()[-1])
            runs[contender.name].append(measured | {"processor_seconds": _children_seconds() - before})
    machine = describe_machine()
    return {
        "sao_onnx": __version__,
        "kind": kinds.kind_of(machine, native_operators().library is not None),
        "machine": {
            "processor": processor(),
            "cores": machine.cores,
            "features": kinds.features(machine),
            "system": platform.platform(),
        },
        "operators": str(native_operators()),
        "threads": THREADS,
        "steps": STEPS,
        "rounds": rounds,
        "runs": runs,
        "closeness": {contender.name: _closeness(folder, contender) for contender in contenders},
        "bundle": _sizes(folder / "bundle"),
    }


def _children_seconds() -> float:
    """Seconds that processors worked for programs that this process started and that have ended."""
    used = os.times()
    return used.children_user + used.children_system


def _interpreter(contender: Contender) -> str:
    """The Python interpreter of a contender's environment, which is made if it is missing."""
    if contender.environment is None:
        return sys.executable
    environment = ROOT / "scratch" / "contenders" / contender.environment
    python = environment / "bin" / "python"
    ready = environment / "ready"
    if not ready.exists():
        listed = ROOT / "bench" / "contenders" / "environments.json"
        packages = json.loads(listed.read_text(encoding="utf-8"))[contender.environment]
        output_of([sys.executable, "-m", "venv", str(environment)])
        for package in packages:
            output_of([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", package])
        ready.touch()
    return str(python)


def _closeness(folder: Path, contender: Contender) -> dict[str, float]:
    """Signal-to-noise ratios of a contender's clip against PyTorch's in decibels; of samples also without their mean."""
    with (
        np.load(folder / "pytorch-eager.npz") as exact,
        np.load(folder / f"{contender.program}-{contender.variant}.npz") as own,
    ):
        found = {"latents": decibels(exact["latents"], own["latents"]), "samples": decibels(exact["samples"], own["samples"])}
        without_mean = (array - array.mean(axis=1, keepdims=True) for array in (exact["samples"], own["samples"]))
        return found | {"samples without mean": decibels(*without_mean)}


def _sizes(bundle: Path) -> dict[str, int]:
    """Size of the files of each precision, in bytes."""
    return {
        precision: sum(path.stat().st_size for path in (bundle / precision).iterdir())
        for precision in ("int8", "fp32")
        if (bundle / precision).exists()
    }


if __name__ == "__main__":
    main()
