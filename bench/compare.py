"""sao-onnx beside everything else that can run the model, on the same weights, threads and request.

    python -m bench.compare                  everything, three rounds, and how sao-onnx's cost grows
    python -m bench.compare --quick          PyTorch, plain ONNX Runtime and sao-onnx, one round
    python -m bench.compare --quick --model models/miniature --folder FOLDER --results FOLDER

Writes `results.json`, `results.md` and pictures. Each clip is a process of its own; the contenders take turns, because a
machine's speed drifts. Contenders with dependencies of their own live in environments that are made when they are first needed.
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
        name: For people.
        program: Its file under `contenders`, without suffix.
        variant: What it is asked for.
        environment: Name of its environment; None for the project's own.
        quick: Part of the quick version.
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
    """Run what the command line asks for."""
    options = parser(__doc__)
    options.add_argument("--quick", action="store_true", help="fewer contenders, one round, no growth")
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
    """Let every contender make its clip in every round; everything that was measured."""
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
    """The Python of a contender's environment."""
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
    """Signal-to-noise ratio of a contender's clip against PyTorch's, in decibels; of samples also without their mean."""
    with (
        np.load(folder / "pytorch-eager.npz") as exact,
        np.load(folder / f"{contender.program}-{contender.variant}.npz") as own,
    ):
        found = {"latents": decibels(exact["latents"], own["latents"]), "samples": decibels(exact["samples"], own["samples"])}
        without_mean = (array - array.mean(axis=1, keepdims=True) for array in (exact["samples"], own["samples"]))
        return found | {"samples without mean": decibels(*without_mean)}


def _sizes(bundle: Path) -> dict[str, int]:
    """Bytes of each precision's files."""
    return {
        precision: sum(path.stat().st_size for path in (bundle / precision).iterdir())
        for precision in ("int8", "fp32")
        if (bundle / precision).exists()
    }


def totals(runs: list[dict[str, Any]], load: bool = False) -> list[float]:
    """Seconds of every clip, with or without loading."""
    stages = STAGES if load else STAGES[1:]
    return [sum(run["seconds"].get(stage, 0.0) for stage in stages) for run in runs]


def middle(values: Sequence[float]) -> str:
    """Median and spread of seconds."""
    return f"{np.median(values):.2f} s ({min(values):.2f}-{max(values):.2f})"


def table(report: dict[str, Any]) -> str:
    """The report for people."""
    machine, runs = report["machine"], report["runs"]
    features = ", ".join(machine["features"] or ())
    lines = [
        "# Comparison",
        "",
        f"One clip of the whole window, {report['steps']} steps, {report['threads']} threads, on synthetic weights; a process "
        f"for each clip, in turn; median (least-most) of {report['rounds']}. {machine['processor']}, {machine['cores']} cores "
        f"({features}); sao-onnx {report['sao_onnx']}. Made by `{report['command']}`.",
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
        "A clip's time leaves loading out (compiling, with `torch.compile`); `with loading` counts it. The ratio is the median "
        "of the rounds' own. Each part is dropped after use, but PyTorch's checkpoint, which is loaded whole. LiteRT's clip "
        "has no T5. Decibels are of the samples against PyTorch's of the same noise: every contender computes the same clip.",
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
