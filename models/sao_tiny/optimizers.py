"""Optimizers whose learning rates stand in tensors, so that a captured step takes the newest."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn


def adamw(parameters: Iterable[nn.Parameter], lr: float, weight_decay: float = 0.0) -> torch.optim.Optimizer:
    """AdamW as all stages use it."""
    found = list(parameters)
    on_gpu = found[0].is_cuda
    return torch.optim.AdamW(
        found, lr=torch.tensor(lr), betas=(0.9, 0.98), weight_decay=weight_decay, capturable=on_gpu, foreach=on_gpu
    )


def scaled_rates(optimizers: Iterable[torch.optim.Optimizer], device: torch.device) -> Callable[[float], None]:
    """A function that sets all learning rates to a share of what they are now.

    Args:
        optimizers: Their learning rates become tensors.
        device: Of the parameters.
    """
    rates: list[tuple[float, Tensor]] = []
    for optimizer in optimizers:
        highest = optimizer.param_groups[0].setdefault("highest", float(optimizer.param_groups[0]["lr"]))
        rate = torch.tensor(highest, device=device)
        for group in optimizer.param_groups:
            group["lr"] = rate
        rates.append((highest, rate))

    def scale(share: float) -> None:
        for highest, rate in rates:
            rate.fill_(share * highest)

    return scale


class Muon(torch.optim.Optimizer):
    """Momentum whose every step is made orthogonal, for weights of two or more axes, flattened behind the first.

    Jordan et al., "Muon" (2024), with the size of steps of Liu et al., "Muon is scalable for LLM training" (2025), so that
    learning rates are AdamW's. Weights of one shape are worked on together.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        shapes: dict[tuple[int, int], list[nn.Parameter]] = {}
        for parameter in parameters:
            shapes.setdefault((parameter.shape[0], parameter[0].numel()), []).append(parameter)
        groups = [{"params": alike} for alike in shapes.values()]
        super().__init__(groups, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take one step."""
        for group in self.param_groups:
            parameters = group["params"]
            gradient = torch.stack([parameter.grad.flatten(1) for parameter in parameters])
            state = self.state[parameters[0]]
            if "momentum" not in state:
                state["momentum"] = torch.zeros_like(gradient)
            velocity = state["momentum"]
            velocity.lerp_(gradient, 1 - group["momentum"])
            update = orthogonal(gradient.lerp(velocity, group["momentum"]))
            change = update * (group["lr"] * (0.2 * math.sqrt(max(update.shape[1:]))))
            kept = 1 - group["lr"] * group["weight_decay"]
            for parameter, part in zip(parameters, change, strict=True):
                parameter.mul_(kept).sub_(part.view_as(parameter))


def orthogonal(matrices: Tensor) -> Tensor:
    """Roughly the nearest orthogonal matrices, [n, rows, columns].

    Five Newton-Schulz steps with the coefficients of Jordan et al. (2024).
    """
    tall = matrices.shape[1] > matrices.shape[2]
    x: Tensor = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        square = x @ x.mT
        x = 3.4445 * x + (2.0315 * square @ square - 4.7750 * square) @ x
    return x.mT if tall else x
