"""Compares sao-onnx with other programs that can run the model, with the same weights, threads and request.

    python -m bench.compare                  all contenders, three rounds, and sao-onnx's time by setting
    python -m bench.compare --quick          PyTorch, plain ONNX Runtime and sao-onnx, one round
    python -m bench.compare --quick --model models/miniature --folder FOLDER --results FOLDER

Writes `results.json`, `results.md` and diagrams. Each clip is made by a new process. The contenders take turns, because the
speed of a machine changes over time. A contender with its own dependencies has its own environment, which is made when it is
first used.
"""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench import growth, pictures
from bench.common import ROOT, STEPS, THREADS, decibels, output_of, parser, prepared, processor
from sao_onnx import __version__
from sao_onnx.runtime.machine import describe_machine

STAGES = ("load", "conditioning", "sampling", "decoding")


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


PYTORCH = Contender("PyTorch eager", "pytorch", "eager", quick=True)

EVERYONE = (
    PYTORCH,
    Contender("PyTorch torch.compile", "pytorch", "compile"),
    Contender("ONNX Runtime, plain export", "onnxruntime_plain", "fp32", quick=True),
    Contender("OpenVINO f32", "openvino_plain", "f32", "openvino"),
    Contender("OpenVINO bf16", "openvino_plain", "bf16", "openvino"),
    Contender("LiteRT, Arm's recipe", "litert", "int8", "litert"),
    Contender("sao-onnx fp32", "ours", "fp32", quick=True),
    Contender("sao-onnx int8", "ours", "int8", quick=True),
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
    report["command"] = " ".join(["python -m bench.compare", *sys.argv[1:]])
    if not arguments.quick:
        report["growth"] = growth.measure(folder / "bundle")
    arguments.results.mkdir(parents=True, exist_ok=True)
    (arguments.results / "results.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    (arguments.results / "results.md").write_text(table(report), encoding="utf-8")
    pictures.draw(report, arguments.results)
    print(table(report))


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
            runs[contender.name].append(json.loads(output_of(command).splitlines()[-1]))
    machine = describe_machine()
    return {
        "sao_onnx": __version__,
        "machine": {
            "processor": processor(),
            "cores": machine.cores,
            "features": machine.features,
            "system": platform.platform(),
        },
        "threads": THREADS,
        "steps": STEPS,
        "rounds": rounds,
        "runs": runs,
        "closeness": {contender.name: _closeness(folder, contender) for contender in contenders},
        "bundle": _sizes(folder / "bundle"),
    }


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


def totals(runs: list[dict[str, Any]], load: bool = False) -> list[float]:
    """Seconds of every clip.

    Args:
        runs: The clips of a contender.
        load: Whether the time of loading counts.
    """
    stages = STAGES if load else STAGES[1:]
    return [sum(run["seconds"].get(stage, 0.0) for stage in stages) for run in runs]


def middle(values: Sequence[float]) -> str:
    """Median, smallest and largest of several times in seconds, as text."""
    return f"{np.median(values):.2f} s ({min(values):.2f}-{max(values):.2f})"


def table(report: dict[str, Any]) -> str:
    """The report in Markdown."""
    machine, runs = report["machine"], report["runs"]
    features = ", ".join(machine["features"] or ())
    lines = [
        "# Comparison",
        "",
        f"One clip of the whole window, {report['steps']} steps, {report['threads']} threads, synthetic weights. Each clip is "
        f"made by a new process, and the programs take turns. Median (smallest-largest) of {report['rounds']}. "
        f"{machine['processor']}, {machine['cores']} cores ({features}); sao-onnx {report['sao_onnx']}. "
        f"Made by `{report['command']}`.",
        "",
        "| | a step of the DiT | decoder | whole clip | PyTorch / this | with loading | peak memory | against PyTorch |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, measured in runs.items():
        step = [run["seconds"]["sampling"] / report["steps"] for run in measured]
        decoding = [run["seconds"]["decoding"] for run in measured]
        ratios = [a / b for a, b in zip(totals(runs[PYTORCH.name]), totals(measured), strict=True)]
        cells = [
            name,
            middle(step),
            middle(decoding),
            middle(totals(measured)),
            f"{np.median(ratios):.2f}",
            f"{np.median(totals(measured, load=True)):.2f} s",
            f"{np.median([run['peak_memory'] for run in measured]) / 1e6:.0f} MB",
            f"{report['closeness'][name]['samples']:.0f} dB",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "The time of a clip does not include loading, which for `torch.compile` is compiling; `with loading` does. `PyTorch / "
        "this` is the median of the ratios of all rounds. Each network is dropped after use, except those of PyTorch's "
        "checkpoint, which is loaded as a whole. LiteRT's clip leaves T5 out. Decibels compare the samples with PyTorch's for "
        "the same noise: every contender computes the same clip.",
        "",
        "| bundle | size |",
        "|---|---|",
        *(f"| {precision} | {size / 1e6:.0f} MB |" for precision, size in report["bundle"].items()),
    ]
    if "growth" in report:
        lines += ["", *growth.table(report["growth"])]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
