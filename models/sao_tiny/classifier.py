"""Trains a small network that says what kind of sound a clip is, on the synthesizer's sounds. `kind_classifier` uses it.

    python -m models.sao_tiny.classifier scratch/sao-tiny

trains it, tests it on sounds that were held out, and writes `classifier.onnx` beside this file, for ONNX Runtime.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.sao_tiny.data import training_sound, unseen_sound
from models.sao_tiny.features import BANDS, FRAMES, features
from models.sao_tiny.loop import Schedule, fit
from models.sao_tiny.requests import KINDS, render
from models.sao_tiny.train import say
from sao_onnx_convert.export.modules import remove_origin

SOUNDS = 15_500
TESTS = 620
BATCH = 64
SCHEDULE = Schedule(steps=2000, warmup=50)
RATE = 2e-3
FIRST = 5_000_000
MODEL = Path(__file__).parent / "classifier.onnx"


class Classifier(nn.Module):
    """Convolutions over the spectrogram, then what is loudest and what is usual of them."""

    def __init__(self) -> None:
        super().__init__()
        widths = (1, 24, 48, 64, 64)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, (5, 3), stride=2, padding=(2, 1)), nn.BatchNorm2d(b), nn.ReLU())
            for a, b in itertools.pairwise(widths)
        )
        self.last = nn.Linear(2 * widths[-1] * -(-BANDS // 16), len(KINDS))

    def forward(self, x: Tensor) -> Tensor:
        """Logits [b, kinds] of spectrograms [b, bands, frames]."""
        # Each band of the spectrogram knows which it is by its place in the last layer.
        x = x[:, None]
        for layer in self.layers:
            x = layer(x)
        y: Tensor = self.last(torch.cat([x.mean(-1).flatten(1), x.amax(-1).flatten(1)], dim=1))
        return y


def train(folder: Path, say: Callable[[str], None]) -> Classifier:
    """Train it on sounds that nothing else is trained on."""
    torch.manual_seed(0)
    seen = torch.from_numpy(spectrograms(folder / "classifier-train.npy", SOUNDS, held_out=False))
    truth = torch.arange(SOUNDS) % len(KINDS)
    model = Classifier()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.02)
    model.train()
    fit("classifier", folder, model, [optimizer], SCHEDULE, _Naming(model, seen, truth), say)
    return model.eval().requires_grad_(False)


class _Naming:
    """Spectrograms, and the kinds that they are of."""

    def __init__(self, model: Classifier, seen: Tensor, truth: Tensor) -> None:
        self._model, self._seen, self._truth = model, seen, truth

    def phase(self, progress: float) -> int:
        return 0

    def draw(self, step: int, progress: float) -> dict[str, Tensor]:
        chosen = torch.from_numpy(np.random.default_rng(step).integers(len(self._seen), size=BATCH))
        return {"x": varied(self._seen[chosen]), "truth": self._truth[chosen]}

    def losses(self, phase: int, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        logits, truth = self._model(batch["x"]), batch["truth"]
        right = (logits.argmax(1) == truth).float().mean()
        return {"right": right, "loss": F.cross_entropy(logits, truth, label_smoothing=0.05)}


def varied(x: Tensor) -> Tensor:
    """Spectrograms with a changed colour, a noise floor, less range, and details lost, so that no detail decides."""
    count = len(x)
    colour = F.interpolate(0.06 * torch.randn(count, 1, 6), BANDS, mode="linear").squeeze(1)[:, :, None]
    x = (x + colour * (x > 0)).clamp(0, 1)
    x = torch.maximum(x, torch.rand(count, 1, 1) * 0.4 * (0.9 + 0.2 * torch.rand(count, BANDS, FRAMES)))
    x = x + 0.04 * torch.rand(count, 1, 1) * torch.randn(count, BANDS, FRAMES)
    blurred = F.avg_pool2d(x[:, None], 3, stride=1, padding=1)[:, 0]
    share = torch.rand(count, 1, 1)
    return share * x + (1 - share) * blurred


def spectrograms(path: Path, count: int, held_out: bool) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Features of `count` sounds, all kinds equally often, made once."""
    if not path.is_file():
        with ProcessPoolExecutor() as workers:
            found = workers.map(_unseen if held_out else _seen, range(count), chunksize=16)
            stacked = np.stack(list(found))
        np.save(path, stacked)
    loaded: np.ndarray[Any, np.dtype[np.float32]] = np.load(path)
    return loaded


def _seen(index: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    rng, sound = training_sound(FIRST + index, KINDS[index % len(KINDS)])
    return features(render(rng, sound))


def _unseen(index: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    rng, sound = unseen_sound(FIRST + index, KINDS[index % len(KINDS)])
    return features(render(rng, sound))


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Train the classifier.")
    parser.add_argument("folder", type=Path, help="that of the training")
    folder = parser.parse_args().folder
    model = train(folder, say)
    tests = torch.from_numpy(spectrograms(folder / "classifier-test.npy", TESTS, held_out=True))
    found = model(tests).argmax(1)
    truth = torch.arange(TESTS) % len(KINDS)
    right = found == truth
    say(f"right on {int(right.sum())} of {TESTS} held-out sounds")
    for index in torch.nonzero(~right).flatten().tolist():
        say(f"  {KINDS[truth[index]]} taken for {KINDS[found[index]]}")
    example = (tests[:1],)
    torch.onnx.export(
        model, example, str(MODEL), input_names=["spectrogram"], output_names=["logits"], dynamo=True, external_data=False,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
    )  # fmt: skip
    graph = onnx.load(MODEL)
    remove_origin(graph)
    onnx.save(graph, MODEL)


if __name__ == "__main__":
    main()
