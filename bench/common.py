"""What the measurements share.

This module imports little, because Linux counts the memory of a process that starts another one towards the peak of the new
one.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from sao_onnx.runtime.machine import describe_machine

ROOT = Path(__file__).parent.parent
FULL_SIZE = ROOT / "models" / "stable-audio-open-small"
PROMPT = "128 BPM tech house drum loop"
SEED = 42
THREADS, STEPS = 2, 8


def parser(description: str | None) -> argparse.ArgumentParser:
    """Options that every measurement has.

    Args:
        description: Text of the help.
    """
    common = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    common.add_argument(
        "--folder", type=Path, default=ROOT / "scratch" / "bench", help="folder of the models; those that are missing are made"
    )
    common.add_argument("--model", type=Path, default=FULL_SIZE, help="folder with model_config.json and t5_config.json")
    common.add_argument("--results", type=Path, default=ROOT / "bench" / "results", help="folder for the reports")
    return common


def prepared(folder: Path, model: Path) -> None:
    """Let `bench.prepare` make the models that are missing in a folder."""
    output_of([sys.executable, "-m", "bench.prepare", "--folder", str(folder), "--model", str(model)])


def output_of(command: list[str]) -> str:
    """Run a program.

    Returns:
        What it prints.

    Raises:
        SystemExit: The program failed. The message has the end of its errors.
    """
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed with status {done.returncode}:\n{done.stderr[-4000:]}")
    return done.stdout


def processor() -> str:
    """Name of this machine's processor, and the features to which `bench.processors` limits it."""
    hidden, name = os.environ.get("SAO_ONNX_PROCESSOR"), describe_machine().processor
    return f"{name} as {hidden}, all other instructions hidden" if hidden else name


def decibels(signal: np.ndarray[Any, Any], found: np.ndarray[Any, Any]) -> float:
    """Signal-to-noise ratio in decibels, at most 200.

    Args:
        signal: The exact values.
        found: The values to compare, of the same shape.
    """
    noise = float(((signal.astype(np.float64) - found) ** 2).sum())
    return min(200.0, float(10 * np.log10(float((signal.astype(np.float64) ** 2).sum()) / max(noise, 1e-30))))
