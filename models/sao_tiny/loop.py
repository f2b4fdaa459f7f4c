"""A training run that can be cut off at any moment: one optimizer, a schedule, a curve, a file to go on from."""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

F = TypeVar("F", bound=Callable[..., Any])

SAVE_EVERY = 120.0  # seconds


@dataclass(frozen=True)
class Schedule:
    """How long and how fast.

    Attributes:
        steps: Steps of the whole run.
        rate: Highest learning rate.
        warmup: Steps in which it rises from 0.
        decay: The share of all steps, at the end, in which it falls to 0 along a cosine.
    """

    steps: int
    rate: float
    warmup: int = 200
    decay: float = 1.0

    def at(self, step: int) -> float:
        """Learning rate of a step, as a share of the highest."""
        rise = min(1.0, (step + 1) / self.warmup)
        start = self.steps * (1 - self.decay)
        share = max(0.0, (step - start) / max(1.0, self.steps - start))
        return rise * 0.5 * (1 + math.cos(math.pi * share))


def fit(
    name: str,
    folder: Path,
    model: nn.Module,
    optimizers: Iterable[torch.optim.Optimizer],
    schedule: Schedule,
    losses: Callable[[int], dict[str, Tensor]],
    say: Callable[[str], None],
) -> None:
    """Train until the schedule ends, or go on where a run of this name in this folder stopped.

    Args:
        name: Names the files in `folder`: `NAME.pt` to go on from, and the curve `NAME.jsonl`.
        folder: Where they are.
        model: What is trained, in place.
        optimizers: Which together have all its parameters; their learning rates are the highest ones.
        schedule: How long, and how the learning rates rise and fall.
        losses: Losses of a step by name; those are logged, and their sum under "loss" is minimised. It draws its batch from
            the number of the step, so that a run that was cut off goes on with the same data.
        say: Told of the progress.
    """
    path, curve = folder / f"{name}.pt", folder / f"{name}.jsonl"
    optimizers = list(optimizers)
    first = 0
    if path.is_file():
        state = torch.load(path, weights_only=True)
        first = state["step"]
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group.setdefault("highest", group["lr"])
    saved_at = time.monotonic()
    sums: dict[str, float] = {}
    counted, started = 0, time.monotonic()
    for step in range(first, schedule.steps):
        torch.manual_seed(step)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["highest"] * schedule.at(step)
        found = losses(step)
        found["loss"].backward()  # type: ignore[no-untyped-call]
        found["norm"] = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        for key, value in found.items():
            sums[key] = sums.get(key, 0.0) + float(value.detach())
        counted += 1
        if counted == 50 or step + 1 == schedule.steps:
            means = {key: round(value / counted, 5) for key, value in sums.items()}
            pace = (time.monotonic() - started) / counted
            with curve.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step + 1, "seconds_a_step": round(pace, 3), **means}) + "\n")
            say(f"{name} {step + 1}/{schedule.steps}, {pace:.2f} s a step: {means}")
            sums, counted, started = {}, 0, time.monotonic()
        if time.monotonic() - saved_at > SAVE_EVERY or step + 1 == schedule.steps:
            save(path, {"step": step + 1, "model": model.state_dict(), "optimizers": [o.state_dict() for o in optimizers]})
            saved_at = time.monotonic()


def fused(function: F) -> F:
    """The function compiled, which halves its time, where there is a C++ compiler to do so."""
    if shutil.which(os.environ.get("CXX", "g++")) is None:
        return function
    return cast(F, torch.compile(function))


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a file whole or not at all."""
    beside = path.with_suffix(".part")
    torch.save(state, beside)
    beside.replace(path)


class Muon(torch.optim.Optimizer):
    """Momentum whose every step is made orthogonal, for weights of two or more axes, flattened behind the first.

    Jordan et al., "Muon" (2024), with the size of steps of Liu et al., "Muon is scalable for LLM training" (2025), so that
    learning rates are AdamW's.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take one step."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                gradient = parameter.grad.flatten(1)
                state = self.state[parameter]
                velocity = state.setdefault("momentum", torch.zeros_like(gradient))
                velocity.lerp_(gradient, 1 - group["momentum"])
                update = orthogonal(gradient.lerp(velocity, group["momentum"]))
                size = group["lr"] * 0.2 * math.sqrt(max(update.shape))
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.sub_(size * update.view_as(parameter))


def orthogonal(matrix: Tensor) -> Tensor:
    """Roughly the nearest orthogonal matrix: five Newton-Schulz steps with the coefficients of Jordan et al. (2024)."""
    tall = matrix.shape[0] > matrix.shape[1]
    x: Tensor = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (2.0315 * square @ square - 4.7750 * square) @ x
    return x.T if tall else x
