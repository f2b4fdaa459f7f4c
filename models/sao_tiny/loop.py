"""A training run that can be cut off at any moment: optimizers, a schedule, a curve, a file to go on from."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from models.sao_tiny import states
from models.sao_tiny.optimizers import scaled_rates

SAVE_EVERY = 25.0  # seconds
LOG_EVERY = 100  # steps

WARMUP_STEPS = 3
"""Steps before a step is captured for a GPU: in them, memory is taken and kernels are chosen."""


@dataclass(frozen=True)
class Schedule:
    """How long and how fast.

    Attributes:
        steps: The most steps of the whole run.
        seconds: The longest time of the whole run. It ends with whichever limit is reached first.
        warmup: Steps in which the learning rate rises from 0.
        decay: The last share of the run, in which the learning rate falls to 0 along a cosine.
    """

    steps: int
    seconds: float = math.inf
    warmup: int = 200
    decay: float = 1.0

    def progress(self, step: int, seconds: float) -> float:
        """Share of the run that is done, 0 to 1."""
        return min(1.0, max(step / self.steps, seconds / self.seconds))

    def rate(self, step: int, progress: float) -> float:
        """Learning rate of a step, as a share of the highest."""
        rise = min(1.0, (step + 1) / self.warmup)
        falling = max(0.0, (progress - (1 - self.decay)) / self.decay)
        return rise * 0.5 * (1 + math.cos(math.pi * falling))


class Task(Protocol):
    """What is learned: batches, and how wrong a model is on them."""

    def draw(self, step: int, progress: float) -> dict[str, Tensor]:
        """The inputs of a step, on the device, always of the same shapes. Drawn from the number of the step."""
        ...

    def phase(self, progress: float) -> int:
        """Which part of the run this is; within one, `losses` computes the same."""
        ...

    def losses(self, phase: int, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses by name; those are logged, and "loss" is minimised. Its work does not depend on any value."""
        ...


def fit(
    name: str,
    folder: Path,
    model: nn.Module,
    optimizers: Iterable[torch.optim.Optimizer],
    schedule: Schedule,
    task: Task,
    say: Callable[[str], None],
) -> None:
    """Train until the schedule ends, or go on where a run of this name in this folder stopped.

    On a GPU, a step is captured once and replayed: to start its kernels one by one takes longer than they do.

    Args:
        name: Names the files in `folder`: `NAME.pt` to go on from, the curve `NAME.jsonl`, and `NAME-partial`, the weights
            alone, in the small files of `states`.
        folder: Where they are.
        model: What is trained, in place.
        optimizers: Which together have all its parameters; their learning rates are the highest ones.
        schedule: How long, and how the learning rates rise and fall.
        task: What is learned.
        say: Told of the progress.
    """
    path, curve = folder / f"{name}.pt", folder / f"{name}.jsonl"
    optimizers = list(optimizers)
    device = next(model.parameters()).device
    step, spent = _resume(path, model, optimizers, device)
    rates = scaled_rates(optimizers, device)
    started = saved_at = logged_at = time.monotonic()
    sums: dict[str, Tensor] = {}
    counted = 0

    def work(phase: int, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        found = task.losses(phase, batch)
        found["loss"].backward()  # type: ignore[no-untyped-call]
        found["norm"] = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        return {key: value.detach() for key, value in found.items()}

    run = _Captured(work, say) if device.type == "cuda" else work
    while (progress := schedule.progress(step, spent + time.monotonic() - started)) < 1:
        torch.manual_seed(step)
        rates(schedule.rate(step, progress))
        for key, value in run(task.phase(progress), task.draw(step, progress)).items():
            # A measure that does not apply to a batch is no number.
            entry = torch.stack([value.nan_to_num(), (~value.isnan()).float()])
            sums[key] = sums[key] + entry if key in sums else entry
        step, counted = step + 1, counted + 1
        if counted == LOG_EVERY or step == schedule.steps:
            means = _means(sums)
            pace = (time.monotonic() - logged_at) / counted
            with curve.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, "seconds_a_step": round(pace, 4), **means}) + "\n")
            say(f"{name} {step} ({progress:.0%}), {pace:.4f} s a step: {means}")
            sums, counted, logged_at = {}, 0, time.monotonic()
        if time.monotonic() - saved_at > SAVE_EVERY:
            _save_run(path, step, spent + time.monotonic() - started, model, optimizers)
            states.write(folder, f"{name}-partial", model.state_dict())
            saved_at = time.monotonic()
    _save_run(path, step, spent + time.monotonic() - started, model, optimizers)
    states.write(folder, f"{name}-partial", model.state_dict())
    for parameter in model.parameters():
        parameter.grad = None


def _means(sums: dict[str, Tensor]) -> dict[str, float]:
    """Means of what was added up, each with how often it was a number."""
    return {key: round(float(total / count.clamp(min=1)), 5) for key, (total, count) in sums.items()}


class _Captured:
    """A step that is captured as a CUDA graph for each phase, and replayed with new inputs."""

    def __init__(self, work: Callable[[int, dict[str, Tensor]], dict[str, Tensor]], say: Callable[[str], None]) -> None:
        self._work, self._say = work, say
        self._counts: dict[int, int] = {}
        self._given_up = False
        self._graphs: dict[int, tuple[torch.cuda.CUDAGraph, dict[str, Tensor], dict[str, Tensor]]] = {}

    def __call__(self, phase: int, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        count = self._counts[phase] = self._counts.get(phase, 0) + 1
        if count <= WARMUP_STEPS or self._given_up:
            stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                found = self._work(phase, batch)
            torch.cuda.current_stream().wait_stream(stream)
            return found
        if phase not in self._graphs:
            inputs = {key: value.clone() for key, value in batch.items()}
            graph = torch.cuda.CUDAGraph()
            try:
                with torch.cuda.graph(graph):
                    found = self._work(phase, inputs)
            except RuntimeError as error:
                self._say(f"the step of phase {phase} cannot be captured, and goes on kernel by kernel: {error}")
                self._given_up = True
                return self._work(phase, batch)
            self._graphs[phase] = graph, inputs, found
            self._say(f"captured the step of phase {phase}")
        graph, inputs, found = self._graphs[phase]
        for key, value in batch.items():
            inputs[key].copy_(value)
        graph.replay()
        return found


def _resume(
    path: Path, model: nn.Module, optimizers: Iterable[torch.optim.Optimizer], device: torch.device
) -> tuple[int, float]:
    """Take over a run that was cut off, if there is one: its steps and seconds so far."""
    if not path.is_file():
        return 0, 0.0
    state = torch.load(path, weights_only=True, map_location=device)
    model.load_state_dict(state["model"])
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    return state["step"], state["seconds"]


def _save_run(path: Path, step: int, seconds: float, model: nn.Module, optimizers: Iterable[torch.optim.Optimizer]) -> None:
    saved = [optimizer.state_dict() for optimizer in optimizers]
    save(path, {"step": step, "seconds": seconds, "model": model.state_dict(), "optimizers": saved})


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a file whole or not at all."""
    partial = path.with_suffix(".part")
    torch.save(state, partial)
    partial.replace(path)
