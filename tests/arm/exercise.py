"""What a user does with the engine, on whatever machine runs this. Needs the installed wheel and nothing else.

    python exercise.py BUNDLE RESULTS [--shipped]

writes arrays and texts to the folder RESULTS, to be compared with those of another machine. With `--shipped`, also those of the
model inside the package, which takes an emulator minutes.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

import sao_onnx
from sao_onnx.audio.files import encode_audio, read_audio
from sao_onnx.audio.formats import AUDIO_FORMATS
from sao_onnx.audio.prepare import fit
from sao_onnx.bundle.bundle import open_bundle
from sao_onnx.cli import app
from sao_onnx.runtime.tuning import Tuning

SECONDS = 1.0
STEPS = 3


def clips(folder: Path) -> dict[str, np.ndarray]:
    """Latents and audio of every way to make a clip, in every precision."""
    found: dict[str, np.ndarray] = {}
    for precision in open_bundle(folder).manifest.precisions:
        engine = sao_onnx.load(folder, precision=precision, threads=2, tuned=False)
        tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(30_000) / 32_000, dtype=np.float32)[None]
        small = Tuning(1, 1, (2,) * (len(engine.manifest.decoder) - 1), precision, precision)
        tiled = sao_onnx.load(folder, precision=precision, tuned=small)
        clip = engine.generate("A4 saw wave", seconds=SECONDS, seed=7, steps=STEPS, normalize="none")
        guided: dict[str, Any] = {
            "cfg_scale": 2.0,
            "negative_prompt": "rain",
            "init_audio": (tone, 32_000),
            "normalize": "none",
        }
        started = engine.generate("kick drum", seconds=SECONDS, seed=8, steps=STEPS, **guided)
        found |= {
            f"{precision}/latents": clip.latents,
            f"{precision}/audio": clip.samples,
            f"{precision}/audio in small tiles": tiled.decode(clip.latents, SECONDS),
            f"{precision}/latents from audio": started.latents,
            f"{precision}/audio from audio": started.samples,
        }
    return found


def shipped() -> dict[str, np.ndarray]:
    """What the model inside the package makes, in few steps; what is short is not decoded to the end of the window."""
    engine = sao_onnx.load(threads=2, tuned=False)
    lengths = {"A4 saw wave": 1.0, "kick drum": 1.0}
    window = engine.manifest.audio.window
    return {
        f"shipped/{prompt}": fit(engine.generate(prompt, seed=1, seconds=seconds, steps=STEPS).samples, window)
        for prompt, seconds in lengths.items()
    }


def files(folder: Path) -> dict[str, np.ndarray]:
    """A chord, written to every format and read again."""
    time = np.arange(22_050) / 44_100
    chord = np.stack([np.sin(2 * np.pi * f * time) for f in (440, 550)]).astype(np.float32) * 0.5
    found = {}
    for suffix in AUDIO_FORMATS:
        path = folder / f"chord{suffix}"
        path.write_bytes(encode_audio(chord, 44_100, suffix))
        samples, rate = read_audio(path)
        found[f"files/{suffix}"] = samples
        found[f"files/{suffix} rate"] = np.array(rate)
    return found


def commands(folder: Path) -> dict[str, str]:
    """What commands print."""
    said = {}
    for line in ("doctor --json --model BUNDLE", "doctor --model BUNDLE", "verify BUNDLE --json", "inspect BUNDLE", "models"):
        text = io.StringIO()
        with contextlib.redirect_stdout(text):
            app([str(folder) if word == "BUNDLE" else word for word in line.split()], standalone_mode=False)
        said[line] = text.getvalue()
    return said


def main(folder: Path, results: Path, *, whole: bool) -> None:
    """Do all of it; with the model inside the package if it shall be `whole`."""
    results.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = clips(folder) | files(results) | (shipped() if whole else {})
    np.savez(results / "arrays.npz", **arrays)
    (results / "said.json").write_text(json.dumps(commands(folder)), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), whole="--shipped" in sys.argv[3:])
