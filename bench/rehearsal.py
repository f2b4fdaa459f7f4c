"""The full size once: a synthetic checkpoint, its conversion, a clip, and PyTorch's clip beside it.

    python bench/rehearsal.py [FOLDER]

Writes `bench/rehearsal.json` and `bench/rehearsal.md`. Every measured program is a process of its own. A checkpoint that FOLDER
already holds is used again. Linux only: it reads and resets the kernel's peak of resident memory.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
MODEL = ROOT / "models" / "stable-audio-open-small"
PROMPT = "128 BPM tech house drum loop"
SEED, STEPS, THREADS = 42, 8, 2
PRECISIONS = ("int8", "fp32")


def main() -> None:
    """Run whatever is asked for: the rehearsal, or one of its measured programs."""
    if len(sys.argv) > 2:
        if sys.argv[2] == "torch":
            torch_stages(Path(sys.argv[1]))
        else:
            engine_stages(Path(sys.argv[1]), sys.argv[2])
        return
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "scratch" / "rehearsal"
    report = rehearse(folder)
    (ROOT / "bench" / "rehearsal.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    (ROOT / "bench" / "rehearsal.md").write_text(table(report), encoding="utf-8")
    print(table(report))


def rehearse(folder: Path) -> dict[str, Any]:
    """Convert and generate at full size; everything that was measured."""
    from sao_onnx import __version__, open_bundle
    from sao_onnx.machine import describe_machine

    checkpoint, bundle = folder / "checkpoint", folder / "bundle"
    if not (checkpoint / "t5" / "tokenizer.json").exists():
        measured([sys.executable, "-m", "sao_onnx_convert.synthetic", str(MODEL), str(checkpoint)])
    command = Path(sys.executable).with_name("sao-onnx")
    convert = [str(command), "convert", str(checkpoint), "--t5", str(checkpoint / "t5"), "-o", str(bundle), "--force"]
    convert += [option for precision in PRECISIONS for option in ("--precision", precision)]
    conversion = measured(convert)
    clip = folder / "clip.wav"
    generate = [str(command), "gen", PROMPT, "-m", str(bundle), "-o", str(clip), "--force", "--json"]
    generate += ["--seed", str(SEED), "--steps", str(STEPS), "--threads", str(THREADS)]
    clips: dict[str, list[dict[str, Any]]] = {precision: [] for precision in PRECISIONS}
    for _ in range(3):
        for precision in PRECISIONS:
            run = measured([*generate, "--precision", precision])
            clips[precision].append(json.loads(run.pop("stdout")) | {"process": run})
    # In turn, and the median of three: the machine's speed drifts.
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in (*PRECISIONS, "torch")}
    for _ in range(3):
        for name, measurements in rounds.items():
            measured([sys.executable, __file__, str(folder), name])
            measurements.append(json.loads((folder / f"{name}.json").read_text())["stages"])
    stages = {name: median(measurements) for name, measurements in rounds.items()}
    manifest = open_bundle(bundle).manifest
    machine = describe_machine()
    return {
        "command": "make rehearsal",
        "version": __version__,
        "tools": manifest.tools,
        "machine": {
            "processor": machine.processor,
            "cores": machine.cores,
            "features": machine.features,
            "system": platform.platform(),
        },
        "threads": THREADS,
        "conversion": {key: conversion[key] for key in ("seconds", "peak_memory")},
        "bundle": {"size": sum(file.size for file in manifest.files)},
        "graphs": [
            {
                "role": graph.role,
                "precision": graph.precision,
                "max_error": graph.max_error,
                "snr": graph.snr,
                "size": open_bundle(bundle).weight(graph),
            }
            for graph in manifest.graphs
        ],
        "clips": {
            precision: [{key: run[key] for key in ("timings", "peak_memory", "process")} for run in runs]
            for precision, runs in clips.items()
        },
        "stages": stages,
        "differences": {precision: differences(folder, precision) for precision in PRECISIONS},
    }


def median(rounds: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Of every stage, the median of its times and of its peaks."""
    return {
        stage: {key: float(np.median([entry[stage][key] for entry in rounds])) for key in rounds[0][stage]}
        for stage in rounds[0]
    }


def measured(command: list[str]) -> dict[str, Any]:
    """Run a program; its output, seconds and peak of resident memory."""
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    if process.stdout is None:
        raise RuntimeError("no pipe")
    stdout = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed with status {status}")
    return {"stdout": stdout, "seconds": time.monotonic() - began, "peak_memory": usage.ru_maxrss * 1024}


class Stages:
    """Seconds and peak of resident memory between marks."""

    def __init__(self) -> None:
        self.measured: dict[str, dict[str, float]] = {}
        self._reset()

    def mark(self, stage: str) -> None:
        """What happened since the last mark belongs to this stage."""
        entry = self.measured.setdefault(stage, {"seconds": 0.0, "peak_memory": 0})
        entry["seconds"] += time.perf_counter() - self._began
        entry["peak_memory"] = max(entry["peak_memory"], _resident_peak())
        self._reset()

    def _reset(self) -> None:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        self._began = time.perf_counter()

    def save(self, folder: Path, name: str, **arrays: np.ndarray[Any, Any]) -> None:
        """Write the measurements and what was computed."""
        np.savez(folder / f"{name}.npz", **arrays)  # type: ignore[arg-type]
        (folder / f"{name}.json").write_text(json.dumps({"stages": self.measured}), encoding="utf-8")


def _resident_peak() -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def engine_stages(folder: Path, precision: str) -> None:
    """The engine, stage by stage."""
    import sao_onnx

    stages = Stages()
    engine = sao_onnx.load(folder / "bundle", precision=precision, threads=THREADS, keep_loaded=False)
    for event in engine.stream(PROMPT, seed=SEED, steps=STEPS, normalize=False):
        match event:
            case sao_onnx.Conditioned():
                stages.mark("T5 + number")
            case sao_onnx.Sampled(index=0):
                stages.mark("DiT, loading and first step")
            case sao_onnx.Sampled():
                stages.mark(f"DiT, other {STEPS - 1} steps")
            case sao_onnx.Decoded():
                stages.mark("decoder")
            case sao_onnx.Finished(clip):
                stages.save(folder, precision, latents=clip.latents, samples=clip.samples)


def torch_stages(folder: Path) -> None:
    """PyTorch in eager mode, stage by stage; loading does not count."""
    import torch

    from sao_onnx_convert.pipeline import TorchPipeline

    torch.set_num_threads(THREADS)
    pipeline = TorchPipeline.load(folder / "checkpoint", folder / "checkpoint" / "t5")
    config = pipeline.config
    stages = Stages()
    cross, condition = pipeline.condition(PROMPT, {"seconds_total": config.sample_size / config.sample_rate})
    stages.mark("T5 + number")
    first = "DiT, loading and first step"
    latents = pipeline.sample(
        cross, condition, SEED, STEPS, lambda index: stages.mark(first if index == 0 else f"DiT, other {STEPS - 1} steps")
    )
    audio = pipeline.decode(latents)
    stages.mark("decoder")
    stages.save(folder, "torch", latents=latents[0].numpy(), samples=audio[0].numpy())


def differences(folder: Path, precision: str) -> dict[str, dict[str, float]]:
    """Largest difference of a clip to PyTorch's, the peak of what PyTorch computed, and the signal-to-noise ratio."""
    report = {}
    with np.load(folder / f"{precision}.npz") as found, np.load(folder / "torch.npz") as reference:
        for name in ("latents", "samples"):
            signal, noise = reference[name].astype(np.float64), found[name].astype(np.float64) - reference[name]
            report[name] = {
                "max": float(np.abs(noise).max()),
                "peak": float(np.abs(signal).max()),
                "snr": float(10 * np.log10((signal**2).sum() / (noise**2).sum())),
            }
    return report


def table(report: dict[str, Any]) -> str:
    """The report for people."""
    machine, stages = report["machine"], report["stages"]
    names = {"int8": "sao-onnx int8", "fp32": "sao-onnx fp32", "torch": "PyTorch eager fp32"}
    totals = {name: sum(stage["seconds"] for stage in stages[name].values()) for name in names}
    peaks = {name: max(stage["peak_memory"] for stage in stages[name].values()) for name in names}
    lines = [
        "# Full-size rehearsal",
        "",
        "Synthetic weights in the sizes of Stable Audio Open Small; the whole 11.89 s window, "
        f"{STEPS} steps, {report['threads']} threads. {machine['processor']}, {machine['cores']} cores "
        f"({', '.join(machine['features'] or ())}). Made by `{report['command']}`: sao-onnx {report['version']}, "
        f"ONNX Runtime {report['tools']['onnxruntime']}, PyTorch {report['tools']['torch']}. "
        "Medians of three rounds, in turn.",
        "",
        "| stage | " + " | ".join(names.values()) + " |",
        "|---|---|---|---|",
    ]
    for stage in stages["torch"]:
        cells = (f"{stages[name][stage]['seconds']:.2f} s" for name in names)
        lines.append(f"| {stage} | " + " | ".join(cells) + " |")
    lines += [
        "| whole clip | " + " | ".join(f"{totals[name]:.1f} s" for name in names) + " |",
        "| PyTorch / this | " + " | ".join(f"{totals['torch'] / totals[name]:.2f}" for name in names) + " |",
        "| peak memory | " + " | ".join(f"{peaks[name] / 1e6:.0f} MB" for name in names) + " |",
        "",
        "sao-onnx opens each stage's graphs when they are needed and drops them after use, and its times include that; "
        "PyTorch's weights are loaded before the first stage and stay.",
        "",
        "| `sao-onnx gen` as a process, median of 3 | from start to exit | peak memory |",
        "|---|---|---|",
    ]
    for precision in PRECISIONS:
        runs = sorted(report["clips"][precision], key=lambda clip: clip["process"]["seconds"])
        middle = runs[len(runs) // 2]["process"]
        lines.append(f"| {precision} | {middle['seconds']:.1f} s | {middle['peak_memory'] / 1e6:.0f} MB |")
    lines += [
        "",
        f"Conversion to both precisions: {report['conversion']['seconds']:.0f} s, peak "
        f"{report['conversion']['peak_memory'] / 1e9:.1f} GB.",
        "",
        "| against PyTorch, same seed | largest difference | peak of the signal | signal to noise |",
        "|---|---|---|---|",
    ]
    for precision in PRECISIONS:
        for name, entry in report["differences"][precision].items():
            lines.append(f"| {precision} {name} | {entry['max']:.1e} | {entry['peak']:.2f} | {entry['snr']:.1f} dB |")
    lines += ["", "| graph | precision | size | signal to noise against its torch module |", "|---|---|---|---|"]
    for graph in report["graphs"]:
        lines.append(f"| {graph['role']} | {graph['precision']} | {graph['size'] / 1e6:.1f} MB | {graph['snr']:.1f} dB |")
    size = sum(graph["size"] for graph in report["graphs"] if graph["precision"] == "int8")
    lines.append(f"| all | int8 | {size / 1e6:.0f} MB | |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
